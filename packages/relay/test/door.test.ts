import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { networkInterfaces } from "node:os";
import { connect as connectTls } from "node:tls";
import type { IstAddress } from "@isthmus/protocol";
import { createIdentity } from "@isthmus/service";
import { expect, it, onTestFinished, vi } from "vitest";
import { TestDaemon } from "./test-daemon.ts";
import { TestIsb } from "./test-isb.ts";
import { dial, dialStream, startPair, startRelay, startWorld } from "./world.ts";

/** A proxy that passes what its client sends in pieces of so many bytes, each in a packet of its own. */
async function splittingProxy(target: () => number, bytes: number): Promise<number> {
  const proxy = createServer({ noDelay: true }, (inner) => {
    const outer = connect({ port: target(), host: "127.0.0.1", noDelay: true });
    for (const socket of [inner, outer]) socket.on("error", () => undefined);
    inner.on("close", () => outer.destroy());
    outer.on("close", () => inner.destroy());
    outer.pipe(inner);
    void pass(inner, outer, bytes);
  });
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  onTestFinished(() => void proxy.close());
  return (proxy.address() as AddressInfo).port;
}

async function pass(from: Socket, to: Socket, bytes: number): Promise<void> {
  try {
    for await (const chunk of from) {
      for (let at = 0; at < chunk.length; at += bytes) {
        to.write(chunk.subarray(at, at + bytes));
        await new Promise(setImmediate);
      }
    }
  } catch {
    // One of the two ends is gone.
  }
}

it.each([1, 2, 3, 7, 64])("takes sessions whose TLS records come in pieces of %i bytes", async (bytes) => {
  const isb = await TestIsb.start();
  let port = 0;
  const proxy = await splittingProxy(() => port, bytes);
  const { relay } = await startRelay({ isbs: [isb.broker], public: [`127.0.0.1:${proxy}`] });
  port = relay.port;
  await isb.held.next();
  const daemon = new TestDaemon(isb.ist);
  const peer = createIdentity().publicKey;
  const offers = await isb.allocate(daemon.key, peer);
  await daemon.up();
  expect((await daemon.join(offers[daemon.key < peer ? 0 : 1])).cells).toHaveLength(2);
});

it("closes what shows itself to be none of ours, at once, and counts it", async () => {
  const { relay, metrics } = await startWorld();
  for (const text of ["SSH-2.0-OpenSSH_9.2\r\n", "POST / HTTP/1.1\r\n\r\n", "\0", "ISTX"]) {
    const leg = dial(relay.port);
    leg.write(text);
    expect(await leg.whenEnded()).toBe("reset");
  }
  const leg = dial(relay.port);
  leg.end();
  expect(await leg.whenEnded()).toBe("reset");
  expect(await metrics.value("refused_total", { at: "connection", reason: "bad-leg-header" })).toBe(5);
  expect(await metrics.value("pending_connections")).toBe(0);
});

it("closes what stays silent, or stops in the middle of its greeting", async () => {
  const { relay, metrics } = await startWorld({ connections: { greeting_seconds: 0.2 } });
  const silent = dial(relay.port);
  const slow = dial(relay.port);
  slow.write("IS");
  const cut = dial(relay.port);
  cut.write(Buffer.concat([Buffer.from("ISTH"), Buffer.alloc(40)]));
  expect(await Promise.all([silent, slow, cut].map((leg) => leg.whenEnded()))).toEqual(["reset", "reset", "reset"]);
  expect(await metrics.value("refused_total", { at: "connection", reason: "bad-leg-header" })).toBe(3);
});

it("closes a TLS handshake or an HTTP request that does not come to its end", async () => {
  const { relay, metrics } = await startWorld({ connections: { handshake_seconds: 0.2 } });
  const tls = dial(relay.port);
  tls.write(Buffer.from([0x16, 0x03, 0x01, 0x00, 0xff]));
  const http = dial(relay.port);
  http.write("GET /v1/session HTTP/1.1\r\nHost: x\r\n");
  const secured = connectTls({ port: relay.port, host: "127.0.0.1", rejectUnauthorized: false });
  onTestFinished(() => void secured.destroy());
  secured.on("error", () => undefined);
  await once(secured, "secureConnect");
  const ended = new Promise<void>((resolve) => secured.on("close", () => resolve()));
  expect(await Promise.all([tls, http].map((leg) => leg.whenEnded()))).toEqual(["reset", "reset"]);
  await ended;
  expect(await metrics.value("refused_total", { at: "connection", reason: "login-timeout" })).toBe(3);
  await vi.waitUntil(async () => (await metrics.value("pending_connections")) === 0);
});

it("is no web server", async () => {
  const { relay } = await startWorld();
  const leg = dial(relay.port);
  leg.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  await leg.whenEnded();
  expect(leg.received.toString()).toMatch(/^HTTP\/1\.1 404 /);
});

it("bounds connections that are nothing yet, of each source and in all", async () => {
  const { relay, metrics } = await startWorld({
    connections: { most_pending: 5, most_pending_per_source: 3, greeting_seconds: 60 },
  });
  const from = (n: number) => dial(relay.port, "127.0.0.1", `127.0.0.${n}`);
  const held = [from(20), from(20), from(20)];
  await vi.waitUntil(async () => (await metrics.value("pending_connections")) === 3);
  expect(await from(20).whenEnded()).toBe("reset");
  held.push(from(21), from(21));
  await vi.waitUntil(async () => (await metrics.value("pending_connections")) === 5);
  expect(await from(22).whenEnded()).toBe("reset");
  expect(await metrics.value("refused_total", { at: "connection", reason: "too-many-opens" })).toBe(2);
  held[0]!.reset();
  await vi.waitUntil(async () => (await metrics.value("pending_connections")) === 4);
  from(22);
  await vi.waitUntil(async () => (await metrics.value("pending_connections")) === 5);
});

it("counts a leg as pending until it has its peer, and a session until it is one", async () => {
  const { offers, metrics } = await startPair();
  expect(await metrics.value("pending_connections")).toBe(0);
  const a = dialStream(offers[0]);
  await vi.waitUntil(async () => (await metrics.value("pending_connections")) === 1);
  const b = dialStream(offers[1]);
  b.write("x");
  await a.bytes(1);
  expect(await metrics.value("pending_connections")).toBe(0);
});

/** An address of this machine that is not loopback, if it has one. */
const ownAddress = Object.values(networkInterfaces())
  .flatMap((addresses) => addresses ?? [])
  .find(({ internal, family }) => !internal && family === "IPv4")?.address;

it("takes sessions without TLS from loopback alone, unless it is insecure", async ({ skip }) => {
  skip(ownAddress === undefined, "this machine has no address of IPv4 but loopback's");
  const opening = "GET /v1/session HTTP/1.1\r\nHost: x\r\n\r\n";
  const strict = await startWorld();
  const refused = dial(strict.relay.port, ownAddress!);
  refused.write(opening);
  expect(await refused.whenEnded()).toBe("reset");
  expect(refused.length).toBe(0);
  const lax = await startWorld({ insecure: true });
  const taken = dial(lax.relay.port, ownAddress!);
  taken.write(opening);
  await taken.whenEnded();
  expect(taken.length).toBeGreaterThan(0);
  expect(lax.isb.ist).toMatchObject({ secure: false });
  expect(lax.isb.ist.certificate).toBeUndefined();
});

it("takes plain sessions of daemons on the same host", async () => {
  const isb = await TestIsb.start();
  await startRelay({ isbs: [isb.broker], insecure: true });
  await isb.held.next();
  const daemon = new TestDaemon(isb.ist);
  await isb.allocate(daemon.key, createIdentity().publicKey);
  await daemon.up();
  expect(daemon.client.origin).toMatch(/^ws:/);
});

it("declares its certificate, and shows the very one", async () => {
  const { isb, daemons } = await startPair();
  const { certificate } = isb.ist as Required<IstAddress>;
  expect(certificate).toMatch(/^[0-9a-f]{64}$/);
  await daemons[0].client.stop();
  const wrong = { ...isb.ist, certificate: certificate.replace(/^./, (digit) => (digit === "0" ? "1" : "0")) };
  const cautious = new TestDaemon(wrong, { identity: daemons[0].identity });
  cautious.client.start();
  await vi.waitUntil(() => cautious.client.lastError?.code === "wrong-certificate", { timeout: 10_000, interval: 10 });
});
