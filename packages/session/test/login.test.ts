import { eventFrame, fingerprintOf, IsthmusError, okFrame, parseHostPort, SUPPORTED_VERSIONS } from "@isthmus/protocol";
import { createIdentity } from "@isthmus/service";
import { describe, expect, it } from "vitest";
import type { WebSocket } from "ws";
import { connect, failure, startClient, startServer } from "./harness.ts";
import { loginFor, RawClient } from "./raw-client.ts";
import { startRawServer } from "./raw-server.ts";
import { startProxy } from "./tcp-proxy.ts";

const STRANGER = "A".repeat(43);

function hello(fields: object = {}): string {
  return eventFrame("hello", { versions: SUPPORTED_VERSIONS, role: "isb", key: STRANGER, nonce: STRANGER, ...fields });
}

describe("a login", () => {
  it("proves each side to the other and tells both who they are", async () => {
    const server = await startServer({ server: { heartbeatMs: 12_345 } });
    const identity = createIdentity();
    const { client, session } = await connect(server, { identity });
    expect(client.login).toMatchObject({
      serverKey: server.identity.publicKey,
      reply: { user: "alice", device: "laptop", heartbeatMs: 12_345 },
    });
    expect(server.attempts).toMatchObject([
      {
        role: "daemon",
        key: identity.publicKey,
        boot: "00112233445566ff",
        origin: server.origin,
        address: "127.0.0.1",
      },
    ]);
    expect(session).toMatchObject({ key: identity.publicKey, context: "context of alice", address: "127.0.0.1" });
    expect(parseHostPort(client.login!.reply.observed)).toEqual({ host: "127.0.0.1", port: session.remotePort });
    expect(server.refused).toEqual([]);
  });

  it("succeeds against the fingerprint of the server's key", async () => {
    const server = await startServer();
    const expected = { fingerprint: fingerprintOf(server.identity.publicKey) };
    const { client } = await connect(server, { target: { origins: [server.origin], expect: expected } });
    expect(client.state).toBe("up");
  });

  it("passes an invite and a device's name on, read anew at each attempt", async () => {
    const invite = "AAECAwQFBgcICQoLDA0ODw";
    let uses = 0;
    const server = await startServer({
      server: {
        authorize: (attempt) => {
          if (attempt.invite === undefined) throw new IsthmusError("unknown-device");
          return { context: "" };
        },
      },
    });
    const registration = (): { invite: string; device: string } | undefined =>
      uses++ === 0 ? { invite, device: "laptop" } : undefined;
    const never = { firstMs: 1e9, mostMs: 1e9, longAfterMs: 1e9, longMs: 1e9 };
    const { client, session } = await connect(server, { registration, backoff: never });
    expect(server.attempts[0]).toMatchObject({ invite, device: "laptop" });
    session.close("shutting-down");
    expect(await failure(client)).toMatchObject({ code: "shutting-down" });
    client.retryNow();
    await expect.poll(() => server.attempts.length).toBe(2);
    expect(server.attempts[1]!.invite).toBeUndefined();
  });
});

describe("the client refuses", () => {
  it.each([
    ["a key", { key: STRANGER }],
    ["a fingerprint", { fingerprint: fingerprintOf(STRANGER) }],
  ])("a server of another key than %s says, and tells it nothing", async (_, expected) => {
    const server = await startServer();
    const client = startClient(server, { target: { origins: [server.origin], expect: expected } });
    expect(await failure(client)).toMatchObject({ code: "wrong-server-key" });
    expect(client.login).toBeUndefined();
    expect(server.attempts).toEqual([]);
  });

  it("a server of another role", async () => {
    const server = await startServer({ role: "ist" });
    expect(await failure(startClient(server))).toMatchObject({ code: "wrong-server-key" });
    expect(server.attempts).toEqual([]);
  });

  it("a server that knows the expected key but does not hold it", async () => {
    const genuine = createIdentity();
    const impostor = createIdentity();
    const raw = await startRawServer((socket) => {
      socket.send(hello({ key: genuine.publicKey }));
      socket.once("message", (data: Buffer) => {
        const { id } = JSON.parse(data.toString()) as { id: string };
        const signature = impostor.sign(Buffer.from("anything"));
        socket.send(okFrame(id, { signature, observed: "127.0.0.1:1", heartbeatMs: 1000 }));
      });
    });
    const client = startClient({ origin: raw.origin, identity: genuine });
    expect(await failure(client)).toMatchObject({ code: "bad-signature" });
    expect(client.login).toBeUndefined();
  });

  it.each([
    ["a version that it does not speak", hello({ versions: [2, 3] }), "unsupported-version"],
    ["no hello", eventFrame("welcome", {}), "bad-message"],
    ["a malformed hello", hello({ nonce: "short" }), "bad-message"],
    ["no JSON", "hello", "bad-message"],
    ["a binary frame", Buffer.from(hello()), "bad-message"],
  ])("a server that starts with %s", async (_, first, code) => {
    const said: unknown[] = [];
    const raw = await startRawServer((socket: WebSocket) => {
      socket.on("message", (data) => said.push(data));
      socket.send(first);
    });
    const client = startClient({ origin: raw.origin, identity: createIdentity() });
    expect(await failure(client)).toMatchObject({ code });
    expect(said).toEqual([]);
  });

  it("a server that closes during the login, by the reason that it gives", async () => {
    const raw = await startRawServer((socket) => socket.close(4000, "too-many-sessions"));
    expect(await failure(startClient({ origin: raw.origin, identity: createIdentity() }))).toMatchObject({
      code: "too-many-sessions",
    });
  });
});

describe("the server refuses", () => {
  it.each([
    ["stranger keys", "unknown-device"],
    ["revoked keys", "device-revoked"],
  ] as const)("%s by what authorize says, sentence and waiting time included", async (_, code) => {
    const server = await startServer({
      server: {
        authorize: () => {
          throw new IsthmusError(code, "ask the operator", { retryAfterMs: 777 });
        },
      },
    });
    const client = startClient(server);
    expect(await failure(client)).toMatchObject({ code, message: "ask the operator", retryAfterMs: 777 });
    expect(server.refused).toEqual([code]);
    expect(server.server.size).toBe(0);
  });

  it("with internal, and no detail, when authorize fails by a fault of its own", async () => {
    const server = await startServer({
      server: { authorize: () => Promise.reject(new Error("password of the store is hunter2")) },
    });
    const error = await failure(startClient(server));
    expect(error).toMatchObject({ code: "internal" });
    expect(error.message).not.toContain("hunter2");
  });

  it("a version that it does not speak, and says which it does", async () => {
    const server = await startServer();
    const client = new RawClient(server.origin);
    const login = loginFor(await client.hello(), server.origin);
    expect(await client.login({ ...login, version: 2 })).toMatchObject({
      t: "error",
      re: "r1",
      code: "unsupported-version",
      message: expect.stringContaining(String(SUPPORTED_VERSIONS)),
    });
    expect(await client.closed).toBe("unsupported-version");
  });

  it("a kind of client that it does not serve", async () => {
    const server = await startServer();
    expect(await failure(startClient(server, { role: "ist" }))).toMatchObject({ code: "bad-request" });
    expect(server.server.size).toBe(0);
  });

  const other = createIdentity();
  it.each([
    ["signature", { signature: "A".repeat(86) }],
    ["device key", { key: other.publicKey }],
    ["nonce", { nonce: STRANGER }],
    ["boot id", { boot: "ffffffffffffffff" }],
    ["role", { role: "ist" as const }],
  ])("a login whose %s was changed on the way", async (_, change) => {
    const server = await startServer();
    const client = new RawClient(server.origin);
    const login = loginFor(await client.hello(), server.origin);
    expect(await client.login({ ...login, ...change })).toMatchObject({ t: "error", code: "bad-signature" });
    expect(await client.closed).toBe("bad-signature");
    expect(server.attempts).toEqual([]);
  });

  it("a login that was recorded on another connection", async () => {
    const server = await startServer();
    const first = new RawClient(server.origin);
    const login = loginFor(await first.hello(), server.origin);
    expect(await first.login(login)).toMatchObject({ t: "ok" });
    const second = new RawClient(server.origin);
    await second.hello();
    expect(await second.login(login)).toMatchObject({ t: "error", code: "bad-signature" });
    expect(server.attempts).toHaveLength(1);
    expect(server.server.size).toBe(1);
  });
});

describe("a malicious server between a victim and the server", () => {
  /** Passes everything on in both directions, after a change. */
  async function relay(real: { origin: string }, change: { hello?: object; login?: object }) {
    return startRawServer((victim) => {
      const far = new RawClient(real.origin);
      const forward = async (): Promise<void> => {
        victim.send(JSON.stringify({ ...(await far.next()), ...change.hello }));
        for (let frame = await far.next(); frame; frame = await far.next()) victim.send(JSON.stringify(frame));
        victim.close(4000, String(await far.closed));
      };
      victim.on("message", (data: Buffer) => far.send({ ...JSON.parse(data.toString()), ...change.login }));
      void forward();
    });
  }

  it("cannot pass a login on, since it names the address that the victim dialled", async () => {
    const real = await startServer();
    const between = await relay(real, {});
    const victim = startClient({ origin: between.origin, identity: real.identity });
    expect(await failure(victim)).toMatchObject({ code: "wrong-origin" });
    expect(real.attempts).toEqual([]);
  });

  it("cannot put the right address into it either", async () => {
    const real = await startServer();
    const between = await relay(real, { login: { origin: real.origin } });
    const victim = startClient({ origin: between.origin, identity: real.identity });
    expect(await failure(victim)).toMatchObject({ code: "bad-signature" });
    expect(real.attempts).toEqual([]);
  });

  it("cannot show another server's hello to a victim who wants the malicious server itself", async () => {
    const real = await startServer();
    const between = await relay(real, {});
    const victim = startClient({ origin: between.origin, identity: createIdentity() });
    expect(await failure(victim)).toMatchObject({ code: "wrong-server-key" });
    expect(real.attempts).toEqual([]);
  });

  it("cannot use a login that was signed for its own key", async () => {
    const real = await startServer({ isOwnOrigin: () => true });
    const own = createIdentity();
    const between = await relay(real, { hello: { key: own.publicKey } });
    const victim = startClient({ origin: between.origin, identity: own });
    expect(await failure(victim)).toMatchObject({ code: "bad-signature" });
    expect(real.attempts).toEqual([]);
  });

  it("is no danger as a wire: behind a proxy of its own the server takes the proxy's address for its own", async () => {
    const real = await startServer({ isOwnOrigin: (origin) => origin === proxied });
    const proxy = await startProxy(real);
    const proxied = proxy.origin;
    const client = startClient({ origin: proxied, identity: real.identity });
    await client.whenUp(AbortSignal.timeout(10_000));
    expect(real.attempts[0]).toMatchObject({ origin: proxied });
    // What is between has another port towards the server.
    expect(client.login?.keptPort).toBe(false);
    const straight = startClient({ ...(await startServer({ isOwnOrigin: () => true })) });
    await straight.whenUp(AbortSignal.timeout(10_000));
    expect(straight.login?.keptPort).toBe(true);
  });
});
