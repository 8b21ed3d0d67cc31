import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createAdminApi, loadOrCreateAdminToken, readAdminToken } from "@isthmus/broker";
import { decodeInvite, fingerprintOf } from "@isthmus/protocol";
import { silentLogger } from "@isthmus/service";
import { describe, expect, onTestFinished, test } from "vitest";
import { startBroker } from "./support/broker.ts";
import { service, startDaemon } from "./support/daemon.ts";
import { startIst } from "./support/ist.ts";

const TOKEN = "a-token-that-nobody-guesses";

async function setUp(options: Parameters<typeof startBroker>[0] = {}) {
  const server = await startBroker(options);
  const { broker, metrics } = server;
  const app = await createAdminApi({
    operations: broker.operations,
    token: TOKEN,
    version: "0.1.0",
    metrics,
    notReady: () => broker.notReady(),
    logger: silentLogger(),
  });
  onTestFinished(() => app.close());
  /** One request with the token: its status and body. */
  const call = async (method: "GET" | "POST" | "DELETE", url: string, body?: object) => {
    const response = await app.inject({
      method,
      url,
      headers: { authorization: `Bearer ${TOKEN}` },
      ...(body === undefined ? {} : { payload: body }),
    });
    return { status: response.statusCode, body: response.json() };
  };
  return { server, app, call };
}

describe("the admin API", () => {
  test("asks for its token everywhere but at health, readiness and metrics", async () => {
    const { app } = await setUp();
    for (const url of ["/healthz", "/readyz", "/metrics"]) {
      expect((await app.inject({ url })).statusCode).toBe(200);
    }
    for (const authorization of [undefined, "", TOKEN, `Bearer ${TOKEN}x`, `Bearer ${TOKEN.slice(1)}`, "Basic abc"]) {
      for (const url of ["/v1/users", "/v1/openapi.json", "/v1/invites"]) {
        const response = await app.inject({ url, headers: authorization === undefined ? {} : { authorization } });
        expect(response.statusCode).toBe(401);
        expect(response.json()).toEqual({ code: "not-allowed", message: "the bearer token is missing or wrong" });
      }
    }
    expect((await app.inject({ url: "/v1/users", headers: { authorization: `bearer ${TOKEN}` } })).statusCode).toBe(
      200,
    );
  });

  test("makes an invite that lets a device in, shows its use, and revokes others", async () => {
    const { server, call } = await setUp();
    const made = await call("POST", "/v1/invites", { role: "daemon", user: "alice", uses: 2 });
    expect(made.status).toBe(200);
    const invite = decodeInvite(made.body.invite);
    expect(invite).toMatchObject({ user: "alice", role: "daemon", secure: false });
    expect(invite.isb).toBe(fingerprintOf(server.identity.publicKey));
    await startDaemon(server, { invite: invite.token });
    const list = await call("GET", "/v1/invites");
    expect(list.body.items).toMatchObject([{ id: made.body.id, user: "alice", uses: 2, used: 1 }]);
    expect(JSON.stringify(list.body)).not.toContain(invite.token);
    expect((await call("DELETE", `/v1/invites/${made.body.id}`)).status).toBe(200);
    expect((await call("DELETE", `/v1/invites/${made.body.id}`)).status).toBe(404);
    expect((await call("GET", "/v1/invites")).body).toEqual({ items: [] });
  });

  test("lists, disables, enables and deletes users", async () => {
    const { server, call } = await setUp();
    const declaration = { services: [service("web")] };
    const alice = await startDaemon(server, { invite: await server.invite("alice"), declaration });
    for (const user of ["bob", "carol"]) await startDaemon(server, { invite: await server.invite(user) });
    const first = await call("GET", "/v1/users?limit=2");
    expect(first.body).toMatchObject({
      items: [{ name: "alice", services: 1, present: 1 }, { name: "bob" }],
      cursor: "bob",
    });
    expect((await call("GET", "/v1/users?limit=2&cursor=bob")).body.items).toMatchObject([{ name: "carol" }]);

    expect((await call("POST", "/v1/users/alice/disable")).status).toBe(200);
    expect((await alice.downs.next()).code).toBe("user-disabled");
    expect((await call("GET", "/v1/users/alice")).body).toMatchObject({ disabled: true });
    expect((await call("GET", "/v1/services")).body.items).toEqual([]);
    expect((await call("POST", "/v1/invites", { role: "daemon", user: "alice" })).status).toBe(409);
    await call("POST", "/v1/users/alice/enable");
    expect((await call("GET", "/v1/services")).body.items).toMatchObject([{ service: "web" }]);

    expect((await call("DELETE", "/v1/users/alice")).status).toBe(200);
    for (const [method, url] of [
      ["GET", "/v1/users/alice"],
      ["DELETE", "/v1/users/alice"],
      ["POST", "/v1/users/alice/enable"],
      ["GET", "/v1/users/alice/devices"],
    ] as const) {
      expect((await call(method, url)).body).toMatchObject({ code: "unknown-user" });
    }
    // Nothing is left of her in the store.
    for (const prefix of ["device-name/alice", "service/alice", "user/alice", "invite/"]) {
      const left = await server.store.scan(prefix);
      expect(left.filter(({ value }) => JSON.stringify(value).includes("alice"))).toEqual([]);
    }
  });

  test("lists and revokes devices", async () => {
    const { server, call } = await setUp();
    const alice = await startDaemon(server, { invite: await server.invite("alice"), device: "desk" });
    const { body } = await call("GET", "/v1/users/alice/devices");
    expect(body.items).toMatchObject([{ name: "desk", present: true, fingerprint: fingerprintOf(alice.key) }]);
    expect((await call("POST", `/v1/users/alice/devices/${body.items[0].fingerprint}/revoke`)).status).toBe(200);
    expect((await alice.downs.next()).code).toBe("device-revoked");
    const unknown = await call("POST", `/v1/users/alice/devices/${"a".repeat(32)}/revoke`);
    expect(unknown).toMatchObject({ status: 404, body: { code: "unknown-device" } });
  });

  test("shows services, ISTs, sessions and subscriptions, and removes a service", async () => {
    const { server, call } = await setUp();
    const ist = await startIst(server, { invite: await server.inviteIst(), name: "frankfurt" });
    const declaration = { services: [service("web", { allow: { users: ["bob"] } })] };
    const alice = await startDaemon(server, { invite: await server.invite("alice"), declaration });
    const bob = await startDaemon(server, { invite: await server.invite("bob") });
    const { allocation } = await bob.subscribe("web", "alice");

    expect((await call("GET", "/v1/services")).body.items).toMatchObject([
      { service: "web", user: "alice", present: true, allow: { anyone: false, users: ["bob"] } },
    ]);
    const ists = await call("GET", "/v1/ists");
    expect(ists.body.items).toMatchObject([{ name: "frankfurt", load: { allocations: 1, room: 999 } }]);
    const sessions = await call("GET", "/v1/sessions?limit=1");
    expect(sessions.body).toMatchObject({ total: 2, items: [{ declared: true, address: "127.0.0.1" }] });
    const next = await call("GET", `/v1/sessions?limit=1&cursor=${sessions.body.cursor}`);
    expect(new Set([...sessions.body.items, ...next.body.items].map(({ user }) => user))).toEqual(
      new Set(["alice", "bob"]),
    );
    expect((await call("GET", "/v1/subscriptions")).body).toMatchObject({
      total: 1,
      items: [{ service: "web", direct: false, allocation: allocation!.allocation, provider: { user: "alice" } }],
    });

    expect((await call("DELETE", "/v1/services/alice/web")).status).toBe(200);
    expect((await bob.ended.next()).code).toBe("unknown-service");
    expect((await call("DELETE", "/v1/services/alice/web")).status).toBe(404);
    expect((await alice.redeclare({})).services).toEqual([{ name: "web" }]);

    const { fingerprint } = ists.body.items[0];
    await call("POST", `/v1/ists/${fingerprint}/disable`);
    expect((await call("GET", "/v1/ists")).body.items[0].disabled).toBe(true);
    await call("POST", `/v1/ists/${fingerprint}/enable`);
    await ist.client.whenUp(AbortSignal.timeout(10_000)).catch(() => undefined);
    expect((await call("POST", `/v1/ists/${"b".repeat(32)}/enable`)).status).toBe(404);
  });

  test("refuses what it does not understand, with the field that is wrong", async () => {
    const { app, call } = await setUp();
    expect(await call("POST", "/v1/invites", { role: "daemon" })).toMatchObject({
      status: 400,
      body: { code: "bad-request" },
    });
    expect((await call("POST", "/v1/invites", { role: "ist", uses: 0 })).body.message).toContain("/uses");
    expect((await call("GET", "/v1/users?limit=0")).status).toBe(400);
    expect((await call("GET", "/v1/users/NO%20NAME")).status).toBe(400);
    expect((await call("GET", "/v1/nothing")).status).toBe(404);
    const headers = { authorization: `Bearer ${TOKEN}`, "content-type": "application/json" };
    const broken = await app.inject({ method: "POST", url: "/v1/invites", headers, payload: "{" });
    expect(broken).toMatchObject({ statusCode: 400 });
    const large = await app.inject({ method: "POST", url: "/v1/invites", headers, payload: `"${"x".repeat(20_000)}"` });
    expect(large.statusCode).toBe(413);
  });

  test("says why it is not ready, and goes on showing what it knows", async () => {
    const { server, app, call } = await setUp();
    await startDaemon(server, { invite: await server.invite("alice") });
    await server.store.close();
    const ready = await app.inject({ url: "/readyz" });
    expect(ready.statusCode).toBe(503);
    expect(ready.json().problem).toContain("store");
    expect((await call("GET", "/v1/users")).body.items).toHaveLength(1);
    expect(await call("POST", "/v1/users/alice/disable")).toMatchObject({
      status: 503,
      body: { code: "store-unavailable" },
    });
  });

  test("documents every route in OpenAPI 3.1, over real HTTP", async () => {
    const { app } = await setUp();
    const origin = await app.listen({ host: "127.0.0.1", port: 0 });
    const response = await fetch(`${origin}/v1/openapi.json`, { headers: { authorization: `Bearer ${TOKEN}` } });
    expect(response.headers.get("content-type")).toContain("application/json");
    const document = (await response.json()) as {
      openapi: string;
      paths: Record<string, Record<string, { summary?: string; responses: Record<string, unknown> }>>;
    };
    expect(document.openapi).toBe("3.1.0");
    const documented = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    );
    expect(documented.sort()).toEqual([
      "DELETE /v1/invites/{id}",
      "DELETE /v1/services/{user}/{service}",
      "DELETE /v1/users/{user}",
      "GET /v1/invites",
      "GET /v1/ists",
      "GET /v1/services",
      "GET /v1/sessions",
      "GET /v1/subscriptions",
      "GET /v1/users",
      "GET /v1/users/{user}",
      "GET /v1/users/{user}/devices",
      "POST /v1/invites",
      "POST /v1/ists/{fingerprint}/disable",
      "POST /v1/ists/{fingerprint}/enable",
      "POST /v1/users/{user}/devices/{fingerprint}/revoke",
      "POST /v1/users/{user}/disable",
      "POST /v1/users/{user}/enable",
    ]);
    for (const methods of Object.values(document.paths)) {
      for (const { summary, responses } of Object.values(methods)) {
        expect(summary).toBeTruthy();
        expect(Object.keys(responses)).toEqual(expect.arrayContaining(["200", "default"]));
      }
    }
    // Every reference leads somewhere.
    const text = JSON.stringify(document);
    for (const [, path] of text.matchAll(/"\$ref":"#\/([^"]+)"/g)) {
      const target = path!
        .split("/")
        .reduce<unknown>((at, key) => (at as Record<string, unknown> | undefined)?.[key], document);
      expect(target).toBeDefined();
    }
    const metrics = await (await fetch(`${origin}/metrics`)).text();
    expect(metrics).toContain("isthmus_isb_daemon_sessions 0");
  });
});

test("the token of a data folder is made once, for its owner alone", async () => {
  const folder = await mkdtemp(join(tmpdir(), "isthmus-token-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const token = loadOrCreateAdminToken(join(folder, "data"));
  expect(token).toMatch(/^[A-Za-z0-9_-]{43}$/);
  expect(loadOrCreateAdminToken(join(folder, "data"))).toBe(token);
  expect(readAdminToken(join(folder, "data"))).toBe(token);
  expect((await stat(join(folder, "data", "admin-token"))).mode & 0o777).toBe(0o600);
});
