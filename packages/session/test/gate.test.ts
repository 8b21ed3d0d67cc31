import { once } from "node:events";
import { connect as connectTcp, type Socket } from "node:net";
import { eventFrame, LIMITS, requestFrame } from "@isthmus/protocol";
import { SESSION_PATH } from "@isthmus/session";
import { describe, expect, it, onTestFinished } from "vitest";
import { connect, failure, startClient, startServer } from "./harness.ts";
import { loginFor, RawClient, rawLogin } from "./raw-client.ts";

function upgradeRequest(path: string): string {
  return [
    `GET ${path} HTTP/1.1`,
    "Host: isb.example",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    "\r\n",
  ].join("\r\n");
}

async function tcp(port: number): Promise<Socket> {
  const socket = connectTcp({ port, host: "127.0.0.1", allowHalfOpen: true });
  socket.on("error", () => undefined);
  onTestFinished(() => void socket.destroy());
  await once(socket, "connect");
  return socket;
}

describe("a session that does not start with a login", () => {
  it.each([
    ["no JSON", "hello", "bad-message"],
    ["nothing", "", "bad-message"],
    ["an event", eventFrame("note", { n: 1 }), "bad-message"],
    ["another request", requestFrame("echo", "r1", { text: "x" }), "bad-message"],
    ["an answer", '{"t":"ok","re":"r1"}', "bad-message"],
    ["a binary frame", Buffer.from("hello"), "bad-message"],
    ["more than a login can be", `{"t":"login","x":"${"x".repeat(LIMITS.loginFrameBytes)}"}`, "too-large"],
    ["depth", "[".repeat(8000), "bad-message"],
  ])("with %s is closed by name", async (_, first, code) => {
    const server = await startServer();
    const client = new RawClient(server.origin);
    await client.hello();
    client.send(first);
    expect(await client.closed).toBe(code);
    expect(server.refused).toEqual([code]);
    expect(server.attempts).toEqual([]);
  });

  it("but with a login in a binary frame is closed by name", async () => {
    const server = await startServer();
    const client = new RawClient(server.origin);
    const login = loginFor(await client.hello(), server.origin);
    client.send(Buffer.from(requestFrame("login", "r1", login)));
    expect(await client.closed).toBe("bad-message");
    expect(server.attempts).toEqual([]);
  });

  it("but with a malformed one is told what is wrong", async () => {
    const server = await startServer();
    const client = new RawClient(server.origin);
    const login = loginFor(await client.hello(), server.origin);
    expect(await client.login({ ...login, nonce: "short" })).toMatchObject({
      t: "error",
      re: "r1",
      code: "bad-message",
      message: expect.stringContaining("nonce"),
    });
    expect(await client.closed).toBe("bad-message");
  });

  it("but with a frame above every limit is cut off", async () => {
    const server = await startServer();
    const client = new RawClient(server.origin);
    await client.hello();
    client.send("x".repeat(LIMITS.sessionFrameBytes + 1));
    expect(await client.closed).toBe(1009);
    await expect.poll(() => server.gate.size).toBe(0);
  });
});

describe("the gate", () => {
  it("takes sessions at one path alone", async () => {
    const server = await startServer();
    for (const path of ["/", `${SESSION_PATH}/`, `${SESSION_PATH}?x=1`, "/v2/session"]) {
      const socket = await tcp(server.port);
      socket.write(upgradeRequest(path));
      const [answer] = (await once(socket, "data")) as [Buffer];
      expect(answer.toString()).toMatch(/^HTTP\/1\.1 404 /);
    }
    expect(server.gate.size).toBe(0);
  });

  it("survives a client that resets its connection while it is being refused", async () => {
    const server = await startServer();
    for (let i = 0; i < 50; i++) {
      const socket = await tcp(server.port);
      socket.write(upgradeRequest("/nothing-here"));
      socket.resetAndDestroy();
    }
    const { client } = await connect(server);
    expect(client.state).toBe("up");
  });

  it("lets go of a refused client that keeps its side of the connection open", async () => {
    const server = await startServer();
    const socket = await tcp(server.port);
    socket.write(upgradeRequest("/nothing-here"));
    socket.resume();
    await once(socket, "end");
    // A write to a closed socket is answered by a reset; to a half-open one it would be taken.
    const closed = new Promise((resolve) => socket.once("close", resolve));
    const poke = setInterval(() => socket.write("x"), 10);
    onTestFinished(() => clearInterval(poke));
    await closed;
  });

  it("refuses connections above the rate of one address, and says so", async () => {
    const server = await startServer({ gate: { connectRate: { perSecond: 0.01, burst: 2 } } });
    await connect(server);
    await connect(server);
    expect(await failure(startClient(server))).toMatchObject({ code: "rate-limited" });
    expect(server.refused[0]).toBe("rate-limited");
    expect(server.gate.size).toBe(2);
  });

  it("holds no more sessions than it may, and has room again when one ends", async () => {
    const server = await startServer({ gate: { maxSessions: 1 } });
    const first = await rawLogin(server.origin);
    const second = startClient(server);
    expect(await failure(second)).toMatchObject({ code: "disconnected", message: expect.stringContaining("503") });
    expect(server.refused[0]).toBe("too-many-sessions");
    first.socket.close();
    await first.closed;
    await second.whenUp(AbortSignal.timeout(10_000));
  });

  it("counts those that have not logged in yet", async () => {
    const server = await startServer({ gate: { maxSessions: 1 } });
    const idle = new RawClient(server.origin);
    await idle.hello();
    expect(await failure(startClient(server))).toMatchObject({ message: expect.stringContaining("503") });
  });

  it("says goodbye to everybody when it closes, and takes nobody after that", async () => {
    const server = await startServer();
    const loggedIn = await rawLogin(server.origin);
    const idle = new RawClient(server.origin);
    await idle.hello();
    await server.gate.close();
    expect(await Promise.all([loggedIn.closed, idle.closed])).toEqual(["shutting-down", "shutting-down"]);
    expect(server.gate.size).toBe(0);
    const late = await tcp(server.port);
    late.write(upgradeRequest(SESSION_PATH));
    const [answer] = (await once(late, "data")) as [Buffer];
    expect(answer.toString()).toMatch(/^HTTP\/1\.1 503 /);
  });

  it("waits for no client that does not answer the goodbye", async () => {
    const server = await startServer();
    const client = await rawLogin(server.origin);
    client.socket.pause();
    await server.gate.close(50);
    expect(server.gate.size).toBe(0);
    client.socket.resume();
  });
});
