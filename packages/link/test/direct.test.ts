import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { encodeProbe } from "@isthmus/protocol";
import { afterEach, describe, expect, it, vi } from "vitest";
import { beginToAgree, type Half, localPair, serve, twoDaemons, twoStrangers } from "./two-daemons.ts";

const SUBSCRIPTION = Buffer.alloc(16, 5).toString("base64url");

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup();
});

async function setUp(reachable: "a" | "b", onConnection: (socket: Socket) => void, isTold = true) {
  const { a, b, tell } = await twoDaemons(reachable, { isTold });
  const { server, address } = await serve(onConnection);
  b.target = address;
  cleanups.push(() => {
    a.close();
    b.close();
    server.close();
  });
  return { a, b, tell };
}

async function open(a: Half, plain = false): Promise<Socket> {
  const { client, accepted } = await localPair();
  a.link.openStream(accepted, { subscription: SUBSCRIPTION, channel: "tcp", opener: "subscriber", plain });
  // A test that expects an error listens for it; in the others a late reset by the clean-up is nobody's.
  client.on("error", () => undefined);
  cleanups.push(() => client.destroy());
  return client;
}

async function readAll(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

const echo = (socket: Socket): void => void socket.pipe(socket);
const sha = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");

describe("a stream that comes before the peer has dialled", () => {
  it("waits for that, and asks for no other place", async () => {
    const { a, tell } = await setUp("a", echo, false);
    const client = await open(a);
    client.end("hello");
    await sleep(200);
    tell();
    expect((await readAll(client)).toString()).toBe("hello");
    expect(a.needsAllocation).toBe(0);
  });

  it("waits, too, where the peer was told to dial before this side had the keys", async () => {
    const [a, b] = await twoStrangers();
    const { server, address } = await serve(echo);
    b.target = address;
    cleanups.push(() => [a, b, server].forEach((one) => void one.close()));
    const finish = beginToAgree(a, b);
    b.link.setDirect(true, [{ host: "127.0.0.1", port: a.port }]);
    await vi.waitFor(() => expect(a.counted.get("leg-refused")).toBeGreaterThan(0));
    finish();
    a.link.setDirect(false, []);
    const client = await open(a);
    client.end("hello");
    expect((await readAll(client)).toString()).toBe("hello");
    expect([a.needsAllocation, b.needsAllocation]).toEqual([0, 0]);
  });

  it("asks for another place when the peer does not dial", async () => {
    const { a } = await setUp("a", echo, false);
    const client = await open(a);
    await vi.waitFor(() => expect(a.needsAllocation).toBeGreaterThan(0), 5000);
    client.destroy();
  });
});

describe.each(["a", "b"] as const)("a stream when %s is reachable (b provides)", (reachable) => {
  describe.each([false, true])("plain %s", (plain) => {
    it("brings bytes both ways and ends cleanly", async () => {
      const { a, b } = await setUp(reachable, echo);
      const client = await open(a, plain);
      const sent = randomBytes(3_000_000);
      client.end(sent);
      expect(sha(await readAll(client))).toBe(sha(sent));
      await vi.waitFor(() => {
        expect(a.ended).toEqual(["opened finished"]);
        expect(b.ended).toEqual(["answered finished"]);
      });
    });

    it("lets the server speak first", async () => {
      const { a } = await setUp(reachable, (socket) => socket.end("220 ready\r\n"));
      expect((await readAll(await open(a, plain))).toString()).toBe("220 ready\r\n");
    });

    it("passes a half-close on: the answer to all of the request comes behind it", async () => {
      const { a } = await setUp(reachable, async (socket) => {
        const request = await readAll(socket);
        socket.end(`heard ${request.length}`);
      });
      const client = await open(a, plain);
      client.end(Buffer.alloc(200_000));
      expect((await readAll(client)).toString()).toBe("heard 200000");
    });

    it("shows a reset of the service as a reset", async () => {
      const { a } = await setUp(reachable, (socket) => socket.once("data", () => socket.resetAndDestroy()));
      const client = await open(a, plain);
      client.write("x");
      const [error] = (await once(client, "error")) as [NodeJS.ErrnoException];
      expect(error.code).toBe("ECONNRESET");
    });
  });

  it("refuses what the provider refuses, as a reset", async () => {
    const { a, b } = await setUp(reachable, echo);
    b.target = "not-allowed";
    const client = await open(a);
    const [error] = (await once(client, "error")) as [NodeJS.ErrnoException];
    expect(error.code).toBe("ECONNRESET");
    expect(a.ended).toEqual(["opened not-allowed"]);
  });

  it("resets at once when nobody listens at the service's port", async () => {
    const { a, b } = await setUp(reachable, echo);
    b.target = { host: "127.0.0.1", port: 9 };
    const client = await open(a);
    const [error] = (await once(client, "error")) as [NodeJS.ErrnoException];
    expect(error.code).toBe("ECONNRESET");
    expect(a.ended).toEqual(["opened service-down"]);
  });
});

describe("a leg port", () => {
  it("hands a probe's nonce on and closes strangers", async () => {
    const { a } = await setUp("a", echo);
    const probe = connect(a.port, "127.0.0.1");
    probe.write(encodeProbe(Buffer.alloc(16, 7)));
    await vi.waitFor(() => expect(a.probes).toEqual(["07".repeat(16)]));
    probe.destroy();
    const stranger = connect(a.port, "127.0.0.1");
    stranger.write(`GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: somebody who came by\r\n\r\n`);
    await once(stranger, "error");
    expect(a.counted.get("leg-refused")).toBe(1);
  });

  it("accepts no header twice for one open, and no control frame twice", async () => {
    const { a, b } = await setUp("b", echo);
    const client = await open(a);
    client.end("once");
    expect((await readAll(client)).toString()).toBe("once");
    expect(b.asked.length).toBe(1);
  });
});

describe("control", () => {
  it("asks for new keys when the peer lost them", async () => {
    const { a, b } = await setUp("b", echo);
    await vi.waitFor(() => expect(a.link.direct?.isUp).toBe(true));
    b.restart();
    const client = await open(a);
    client.write("x");
    await vi.waitFor(() => expect(a.keysLost).toBeGreaterThan(0), { timeout: 8000 });
  }, 15_000);
});
