import { once } from "node:events";
import { chmodSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { createServer } from "node:net";
import { join } from "node:path";
import { apiError, type LocalApiName, localApi, parseHostPort } from "@isthmus/protocol";
import { createLogger, listenOnSocket } from "@isthmus/service";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { StateLock } from "../src/index.ts";
import { temporaryFolder } from "./support/folder.ts";
import { echoService, service } from "./support/local-service.ts";
import { echo, tcpService } from "./support/programs.ts";
import { ScriptedIsb } from "./support/scripted-isb.ts";
import { turnsUntil } from "./support/turns.ts";
import { call, read } from "./support/unix-http.ts";
import { device, TestAgent, type TestAgentOptions, World } from "./support/world.ts";

const WAIT = { timeout: 15_000, interval: 10 };

/** A daemon's API at a real socket. */
async function listening(options: TestAgentOptions = {}) {
  const daemon = await TestAgent.start(options);
  const socket = join(temporaryFolder(), "run", "s");
  await listenOnSocket(daemon.api, socket);
  return { daemon, socket };
}

/** Calls the API without a socket, and holds its answer to the schema. */
async function ask(daemon: TestAgent, name: Exclude<LocalApiName, "watch" | "logs">, body?: object) {
  const { method, path, reply } = localApi[name];
  const response = await daemon.api.inject({ method, url: path, ...(body === undefined ? {} : { payload: body }) });
  const json: unknown = response.json();
  if (response.statusCode !== 200) return { status: response.statusCode, ...apiError.parse(json) };
  return { status: 200, ...(reply.strict().parse(json) as object) };
}

describe("the local API", () => {
  test("answers every call in its agreed form", async () => {
    const world = await World.start();
    const [alice, bob] = [await TestAgent.start(), await device(world, "bob")];
    const invite = await world.invite("alice");
    expect(await ask(alice, "login", { invite, device: "desk" })).toMatchObject({ status: 200, user: "alice" });
    expect(await ask(bob, "provide", { ...(await echoService()), take: false })).toMatchObject({ state: "offered" });
    expect(await ask(alice, "list", {})).toMatchObject({ entries: [{ service: "echo", user: "bob", present: true }] });
    expect(await ask(alice, "list", { user: "carol", service: "echo", away: true })).toMatchObject({ entries: [] });
    expect(await ask(alice, "subscribe", { service: "echo@bob" })).toMatchObject({ state: "active" });
    expect(await ask(alice, "trusted")).toMatchObject({ pins: [{ peer: "echo@bob" }] });
    expect(await ask(alice, "trust", { service: "echo@bob", forget: true })).toMatchObject({ peer: "echo@bob" });
    expect(await ask(alice, "status")).toMatchObject({ subscriptions: [{ service: "echo" }] });
    expect(await ask(alice, "unsubscribe", { service: "echo@bob" })).toEqual({ status: 200 });
    expect(await ask(alice, "invite", {})).toMatchObject({ invite: expect.stringContaining("isthmus1:") });
    expect(await ask(alice, "devices")).toMatchObject({ devices: [{ name: "desk", self: true }] });
    const { port } = parseHostPort(await tcpService(echo))!;
    expect(await ask(alice, "probe", { port })).toMatchObject({ address: "127.0.0.1", outcome: "reachable" });
    expect(await ask(alice, "rotate")).toMatchObject({ status: 200, fingerprint: expect.any(String) });
    expect(await ask(bob, "withdraw", { name: "echo" })).toEqual({ status: 200 });
    const { fingerprint } = bob.agent.status().device;
    expect(await ask(bob, "revoke", { fingerprint })).toEqual({ status: 200 });
    expect(await ask(alice, "logout", {})).toEqual({ status: 200 });
  });

  const target = "127.0.0.1:80";
  const channel = { id: "tcp", proto: "tcp", target };
  test.each<[Exclude<LocalApiName, "watch" | "logs">, string, object, number, string, string]>([
    ["login", "without an invite", {}, 400, "bad-request", "invite"],
    ["login", "with an invite that is too long", { invite: "x".repeat(5000) }, 400, "bad-request", "invite"],
    ["login", "with what is no invite", { invite: "nonsense" }, 400, "invite-invalid", "isthmus1:"],
    ["provide", "with what is no name", { name: "Not A Name", channels: [channel] }, 400, "bad-request", "name"],
    ["provide", "without channels", { name: "web", channels: [] }, 400, "bad-request", "channels"],
    [
      "provide",
      "without a target",
      { name: "web", channels: [{ id: "tcp", proto: "tcp" }] },
      400,
      "bad-request",
      "target",
    ],
    [
      "provide",
      "with a target that the provider has no use for",
      { name: "web", channels: [{ ...channel, opener: "provider" }] },
      400,
      "bad-request",
      "target",
    ],
    [
      "provide",
      "over another protocol",
      { name: "web", channels: [{ ...channel, proto: "sctp" }] },
      400,
      "bad-request",
      "proto",
    ],
    [
      "provide",
      "with two channels of one id",
      { name: "web", channels: [channel, channel] },
      400,
      "bad-request",
      "two channels of one id",
    ],
    [
      "provide",
      "with too many channels",
      { name: "web", channels: Array(9).fill(channel) },
      400,
      "bad-request",
      "channels",
    ],
    [
      "provide",
      "with a list that is none",
      { name: "web", channels: [channel], allow: ["bob#short"] },
      400,
      "bad-request",
      "FINGERPRINT",
    ],
    [
      "provide",
      "that takes a name over",
      { name: "web", channels: [channel], take: true },
      503,
      "not-logged-in",
      "isthmus login",
    ],
    ["withdraw", "of what is not provided", { name: "web" }, 404, "no-such-service", "web"],
    ["list", "", {}, 503, "not-logged-in", "isthmus login"],
    ["subscribe", "to what is no service", { service: "web" }, 400, "bad-request", "web"],
    ["subscribe", "at what is no address", { service: "web@bob", listen: "4711" }, 400, "bad-request", "listen"],
    ["subscribe", "that waits for less than no time", { service: "web@bob", waitMs: -1 }, 400, "bad-request", "waitMs"],
    [
      "subscribe",
      "that accepts nowhere",
      { service: "web@bob", accept: { back: "nowhere" } },
      400,
      "bad-request",
      "accept",
    ],
    ["subscribe", "", { service: "web@bob" }, 503, "not-logged-in", "broker"],
    ["unsubscribe", "from what is not subscribed to", { service: "web@bob" }, 404, "no-such-subscription", "web@bob"],
    ["trust", "where no key was offered", { service: "web@bob" }, 400, "bad-request", "no other key"],
    ["trust", "where there is nothing to forget", { service: "web@bob", forget: true }, 400, "bad-request", "no key"],
    ["trust", "of what is no service", { service: "nobody" }, 400, "bad-request", "nobody"],
    ["invite", "for too short a time", { lifetimeS: 1 }, 400, "bad-request", "lifetimeS"],
    ["revoke", "of nobody", {}, 400, "bad-request", "fingerprint"],
    ["probe", "of no port", {}, 400, "bad-request", "port"],
    ["probe", "at what is no address", { port: 8080, address: "example.org" }, 400, "bad-request", "address"],
    ["probe", "", { port: 8080 }, 503, "not-logged-in", "isthmus login"],
    ["rotate", "", {}, 503, "not-logged-in", "isthmus login"],
  ])("refuses %s %s", async (name, _what, body, status, code, said) => {
    const daemon = await TestAgent.start();
    const answer = await ask(daemon, name, body);
    expect(answer).toMatchObject({ status, code, message: expect.stringContaining(said) });
    expect(daemon.agent.status()).toMatchObject({ services: [], subscriptions: [] });
  });

  test.each([
    ["no JSON", "POST", "/v1/login", "{", {}, 400, "bad-request"],
    ["JSON that is no object", "POST", "/v1/login", "[]", {}, 400, "bad-request"],
    ["nothing where something is needed", "POST", "/v1/login", undefined, {}, 400, "bad-request"],
    [
      "another type",
      "POST",
      "/v1/login",
      "a=b",
      { "content-type": "application/x-www-form-urlencoded" },
      400,
      "bad-request",
    ],
    ["a poisoned object", "POST", "/v1/subscriptions", '{"__proto__":{}}', {}, 400, "bad-request"],
    ["too much", "POST", "/v1/login", `{"invite":"${"x".repeat(300_000)}"}`, {}, 400, "bad-request"],
    ["an unknown path", "GET", "/v1/nothing", undefined, {}, 404, "unknown-type"],
    ["another method", "GET", "/v1/login", undefined, {}, 404, "unknown-type"],
    ["lines that are none", "GET", "/v1/logs?lines=many", undefined, {}, 400, "bad-request"],
    ["lines below none", "GET", "/v1/logs?lines=-1", undefined, {}, 400, "bad-request"],
  ])("refuses %s", async (_what, method, url, payload, headers, status, code) => {
    const daemon = await TestAgent.start();
    const response = await daemon.api.inject({
      method: method as "GET",
      url,
      headers: payload === undefined ? headers : { "content-type": "application/json", ...headers },
      ...(payload === undefined ? {} : { payload }),
    });
    expect([response.statusCode, apiError.parse(response.json()).code]).toEqual([status, code]);
  });

  test("says whether the daemon can do its job, and what it counts", async () => {
    const world = await World.start({ ists: 0 });
    const daemon = await TestAgent.start();
    const get = (url: string) => daemon.api.inject({ method: "GET", url });
    expect([(await get("/healthz")).statusCode, (await get("/readyz")).statusCode]).toEqual([200, 503]);
    expect((await get("/readyz")).json()).toMatchObject({ problem: expect.stringContaining("isthmus login") });
    await daemon.agent.login(await world.invite("alice"));
    expect((await get("/readyz")).statusCode).toBe(200);
    await daemon.agent.provide(service("web"), { take: false });
    expect((await get("/metrics")).body).toContain("isthmus_daemon_services 1");
    await world.stopIsb();
    await vi.waitFor(async () => expect((await get("/readyz")).statusCode).toBe(503), WAIT);
  });

  test("gives up a subscription that nobody waits for any more", async () => {
    const isb = await ScriptedIsb.start();
    isb.onSubscribe = () => new Promise(() => undefined);
    const { daemon, socket } = await listening();
    await daemon.agent.login(isb.invite);
    const asking = request({
      socketPath: socket,
      method: "POST",
      path: localApi.subscribe.path,
      headers: { "content-type": "application/json" },
    });
    asking.on("error", () => undefined).end(JSON.stringify({ service: "web@bob", waitMs: 60_000 }));
    await isb.waitFor("subscribe");
    asking.destroy();
    await isb.waitFor("unsubscribe");
    expect(daemon.agent.status().subscriptions).toEqual([]);
  });
});

describe("the log over the local API", () => {
  test("is what was logged, the newest lines of it, and what follows", async () => {
    const { daemon, socket } = await listening();
    const logger = createLogger({ name: "daemon", level: "info", write: daemon.logs.write });
    for (const n of [1, 2, 3]) logger.info({ n }, "line");
    const lines = async (query: string) => {
      const { text } = await read(await call(socket, "GET", `/v1/logs${query}`));
      return text
        .split("\n")
        .filter(Boolean)
        .map((line) => (JSON.parse(line) as { n: number }).n);
    };
    expect([await lines(""), await lines("?lines=2"), await lines("?lines=0")]).toEqual([[1, 2, 3], [2, 3], []]);
    const following = await call(socket, "GET", "/v1/logs?lines=1&follow=1");
    let heard = "";
    following.on("data", (chunk: Buffer) => (heard += chunk.toString()));
    await vi.waitFor(() => expect(heard).toContain('"n":3'), WAIT);
    logger.info({ n: 4 }, "line");
    await vi.waitFor(() => expect(heard).toContain('"n":4'), WAIT);
    expect(heard.trim().split("\n")).toHaveLength(2);
  });

  test("comes whole, however long it is, to whoever reads it", async () => {
    const { daemon, socket } = await listening();
    for (let n = 0; n < 2000; n++) daemon.logs.write(`${n} ${"x".repeat(2000)}\n`);
    const { text } = await read(await call(socket, "GET", "/v1/logs?lines=2000"));
    expect(text.split("\n")).toHaveLength(2001);
  });

  test("does not wait for ever for whoever has stopped reading", async () => {
    const { daemon, socket } = await listening();
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    onTestFinished(() => void vi.useRealTimers());
    const stopped = await call(socket, "GET", "/v1/logs?lines=0&follow=1");
    const reading = await call(socket, "GET", "/v1/logs?lines=0&follow=1");
    let heard = 0;
    reading.on("data", (chunk: Buffer) => (heard += chunk.length));
    const ended = new Promise((resolve) => stopped.once("close", resolve));
    const line = "x".repeat(100_000);
    for (let n = 0; n < 30; n++) daemon.logs.write(line);
    await turnsUntil(() => heard === 30 * 100_001);
    vi.advanceTimersByTime(9999);
    daemon.logs.write(line);
    await new Promise(setImmediate);
    expect(stopped.destroyed).toBe(false);
    vi.advanceTimersByTime(1);
    stopped.resume();
    await ended;
    expect(stopped.complete).toBe(false);
    daemon.logs.write(line);
    await turnsUntil(() => heard === 32 * 100_001);
    reading.destroy();
  });
});

describe("the directory over the local API", () => {
  test("is told as it is and as it changes; a large one comes over a reconnect without a word", async () => {
    const world = await World.start({ ists: 0 });
    const bobs = await Promise.all([device(world, "bob"), device(world, "bob")]);
    for (const [index, { agent }] of bobs.entries()) {
      const names = Array.from({ length: 75 }, (_, n) => `s${index}-${n}`);
      await Promise.all(names.map((name) => agent.provide(service(name, { anyone: true }), { take: false })));
    }
    const { daemon, socket } = await listening();
    await daemon.agent.login(await world.invite("alice"));
    const watching = await call(socket, "GET", "/v1/watch");
    const events: string[] = [];
    let rest = "";
    watching.on("data", (chunk: Buffer) => {
      const lines = (rest + chunk.toString()).split("\n");
      rest = lines.pop()!;
      for (const line of lines) {
        const { event, entry } = localApi.watch.reply.parse(JSON.parse(line));
        events.push(`${event} ${entry.service}`);
      }
    });
    await vi.waitFor(() => expect(events).toHaveLength(150), WAIT);
    expect(new Set(events.map((event) => event.split(" ")[0]))).toEqual(new Set(["present"]));
    const second = await call(socket, "GET", "/v1/watch");
    second.on("data", (chunk: Buffer) => (rest2 += chunk.toString()));
    let rest2 = "";
    await vi.waitFor(() => expect(rest2.split("\n")).toHaveLength(151), WAIT);
    second.destroy();

    events.length = 0;
    await world.stopIsb();
    await world.startIsb();
    await vi.waitFor(() => {
      expect([daemon, ...bobs].map(({ agent }) => agent.problem)).toEqual([undefined, undefined, undefined]);
    }, WAIT);
    await bobs[0].agent.withdraw("s0-0");
    await vi.waitFor(() => expect(events).toContain("gone s0-0"), WAIT);
    // Whose daemon is back later than alice's is away for a moment, never gone.
    expect(events.filter((event) => event.startsWith("gone"))).toEqual(["gone s0-0"]);
    watching.destroy();
  });
});

describe("the daemon's socket", () => {
  const api = () => new TestAgent().api;

  test("is its owner's alone, and so is its folder", async () => {
    const { socket } = await listening();
    expect([statSync(socket).mode & 0o777, statSync(join(socket, "..")).mode & 0o777]).toEqual([0o600, 0o700]);
    expect(await read(await call(socket, "GET", "/healthz"))).toEqual({ status: 200, text: '{"status":"ok"}' });
  });

  test("is not taken from another daemon", async () => {
    const { socket } = await listening();
    await expect(listenOnSocket(api(), socket)).rejects.toThrow(`another daemon is running: ${socket} is in use`);
    expect((await read(await call(socket, "GET", "/healthz"))).status).toBe(200);
  });

  test("is taken from one that was killed", async () => {
    const folder = temporaryFolder();
    const path = join(folder, "s");
    const killed = createServer().listen(path);
    await once(killed, "listening");
    // Node takes the file away with a server that it closes, so what a killed process leaves is made by hand.
    const left = join(folder, "left");
    symlinkSync(path, join(folder, "link"));
    const { linkSync } = await import("node:fs");
    linkSync(path, left);
    killed.close();
    await once(killed, "close");
    await listenOnSocket(api(), left);
    expect((await read(await call(left, "GET", "/healthz"))).status).toBe(200);
  });

  test("takes no other file's place", async () => {
    const folder = temporaryFolder();
    const path = join(folder, "notes.txt");
    writeFileSync(path, "precious");
    await expect(listenOnSocket(api(), path)).rejects.toThrow(`${path} is not a socket`);
    expect(readFileSync(path, "utf8")).toBe("precious");
    symlinkSync(path, join(folder, "link"));
    await expect(listenOnSocket(api(), join(folder, "link"))).rejects.toThrow("is not a socket");
  });

  test("is not where others may write, nor where its path does not fit", async () => {
    const folder = join(temporaryFolder(), "open");
    mkdirSync(folder);
    chmodSync(folder, 0o777);
    await expect(listenOnSocket(api(), join(folder, "s"))).rejects.toThrow("others may write");
    await expect(listenOnSocket(api(), `/tmp/${"x".repeat(120)}`)).rejects.toThrow("longer than 107 bytes");
  });
});

test("a state folder is one daemon's at a time, by whatever path", async () => {
  const folder = join(temporaryFolder(), "state");
  const lock = await StateLock.take(folder);
  symlinkSync(folder, `${folder}-link`);
  await expect(StateLock.take(folder)).rejects.toThrow(`another daemon is running: it uses ${folder}`);
  await expect(StateLock.take(`${folder}-link`)).rejects.toThrow("another daemon is running");
  (await StateLock.take(temporaryFolder())).release();
  lock.release();
  (await StateLock.take(folder)).release();
});
