import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { encodeProbe } from "@isthmus/protocol";
import { expect, it, vi } from "vitest";
import { alsoHeader, dial, dialStream, legHeader, startJoinedPair, startPair } from "./world.ts";

it("pairs legs by their headers, before anybody has joined, and takes the headers off", async () => {
  const { offers, metrics, relay } = await startPair();
  const legs = [3, 1, 2].map((openId) => dialStream(offers[0], { openId }));
  const peers = [1, 2, 3].map((openId) => dialStream(offers[1], { openId }));
  for (const [index, openId] of [3, 1, 2].entries()) legs[index]!.write(`open ${openId}`);
  for (const [index, openId] of [1, 2, 3].entries()) peers[index]!.write(`answer ${openId}`);
  for (const [index, openId] of [3, 1, 2].entries()) {
    expect((await legs[index]!.bytes(8)).toString()).toBe(`answer ${openId}`);
    expect((await peers[openId - 1]!.bytes(6)).toString()).toBe(`open ${openId}`);
  }
  for (const leg of legs) leg.end();
  for (const peer of peers) {
    expect(await peer.whenEnded()).toBe("end");
    peer.end();
  }
  for (const leg of legs) expect(await leg.whenEnded()).toBe("end");
  await relay.stop();
  expect(await metrics.value("closed_total", { at: "stream", reason: "finished" })).toBe(3);
});

it("pairs legs over IPv4 and IPv6, with what came behind the header", async () => {
  const { offers, relay } = await startPair();
  const sent = randomBytes(500_000);
  const a = dial(relay.port, "::1");
  a.write(Buffer.concat([legHeader(offers[0]), sent]));
  const b = dialStream(offers[1]);
  expect((await b.bytes(sent.length)).equals(sent)).toBe(true);
});

it("takes a header that comes byte by byte", async () => {
  const { offers, relay } = await startPair();
  const a = dial(relay.port);
  await once(a.socket, "connect");
  for (const byte of legHeader(offers[0])) {
    a.write(Buffer.from([byte]));
    await new Promise(setImmediate);
  }
  const b = dialStream(offers[1]);
  b.write("there");
  expect((await a.bytes(5)).toString()).toBe("there");
});

it("does not pair what does not belong together", async () => {
  const { offers, isb } = await startPair();
  const others = await isb.allocate("A".repeat(43), `${"E".repeat(42)}A`);
  const waiting = dialStream(offers[0], { openId: 5 });
  const strays = [
    dialStream(offers[1], { openId: 7 }),
    dialStream(offers[1], { openId: 5, attempt: 1 }),
    dialStream(offers[1], { openId: 5, generation: "00000000000000bb" }),
    dialStream(others[1], { openId: 5 }),
  ];
  for (const stray of strays) stray.write("stray");
  const right = dialStream(offers[1], { openId: 5 });
  right.write("right");
  expect((await waiting.bytes(5)).toString()).toBe("right");
  expect(strays.map(({ length, ended }) => [length, ended])).toEqual(strays.map(() => [0, undefined]));
});

it("ends an older leg of the same side and open", async () => {
  const { offers, metrics, relay } = await startPair();
  const older = dialStream(offers[0]);
  await vi.waitUntil(() => metrics.value("stream_halves"));
  const newer = dialStream(offers[0]);
  expect(await older.whenEnded()).toBe("reset");
  const b = dialStream(offers[1]);
  b.write("newer");
  expect((await newer.bytes(5)).toString()).toBe("newer");
  await relay.stop();
  expect(await metrics.value("closed_total", { at: "stream", reason: "replaced" })).toBe(1);
});

it("ends a leg whose peer does not come", async () => {
  const { offers, metrics, relay } = await startPair({ connections: { stream_half_seconds: 0.2 } });
  expect(await dialStream(offers[0]).whenEnded()).toBe("reset");
  expect(await metrics.value("pending_connections")).toBe(0);
  await relay.stop();
  expect(await metrics.value("closed_total", { at: "stream", reason: "no-peer-leg" })).toBe(1);
});

it("refuses a header that was used for a pair before, of either side", async () => {
  const { offers, metrics } = await startPair();
  const [a, b] = [dialStream(offers[0], { openId: 4 }), dialStream(offers[1], { openId: 4 })];
  a.write("x");
  await b.bytes(1);
  for (const offer of offers) expect(await dialStream(offer, { openId: 4 }).whenEnded()).toBe("reset");
  a.reset();
  await b.whenEnded();
  for (const offer of offers) expect(await dialStream(offer, { openId: 4 }).whenEnded()).toBe("reset");
  expect(await metrics.value("refused_total", { at: "leg", reason: "already-joined" })).toBe(4);
  const again = [dialStream(offers[0], { openId: 4, attempt: 1 }), dialStream(offers[1], { openId: 4, attempt: 1 })];
  again[0]!.write("again");
  expect((await again[1]!.bytes(5)).toString()).toBe("again");
});

it("refuses forged and foreign headers by reason", async () => {
  const { offers, metrics, relay } = await startPair();
  const refusals = async (reason: string): Promise<number> => metrics.value("refused_total", { at: "leg", reason });
  const flipped = legHeader(offers[0]);
  flipped[40]! ^= 1;
  const crossed = legHeader({ ...offers[0], side: 1 });
  const control = legHeader(offers[0], { kind: "control" });
  const probe = encodeProbe(randomBytes(16));
  for (const header of [flipped, crossed, control, probe]) {
    const leg = dial(relay.port);
    leg.write(header);
    expect(await leg.whenEnded()).toBe("reset");
  }
  expect(await refusals("bad-leg-header")).toBe(4);
  expect(await dialStream({ ...offers[0], allocation: "0123456789abcdef" }).whenEnded()).toBe("reset");
  expect(await refusals("unknown-allocation")).toBe(1);
  const newer = legHeader(offers[0]);
  newer[4] = 2;
  const leg = dial(relay.port);
  leg.write(newer);
  expect(await leg.whenEnded()).toBe("reset");
  expect(await refusals("unsupported-version")).toBe(1);
});

it("adds the source of an 'also' to its side, and says so by its FIN", async () => {
  const { offers, ports, relay } = await startJoinedPair();
  const [toA, toB] = ports[0];
  expect(await dial(toA, "127.0.0.1", "127.0.0.6").whenEnded()).toBe("reset");
  const also = dial(relay.port, "127.0.0.1", "127.0.0.6");
  also.write(alsoHeader(offers[0]));
  expect(await also.whenEnded()).toBe("end");
  expect(await dial(toB, "127.0.0.1", "127.0.0.6").whenEnded()).toBe("reset");
  const a = dial(toA, "127.0.0.1", "127.0.0.6");
  a.write("also");
  const b = dial(toB);
  expect((await b.bytes(4)).toString()).toBe("also");
});

it("adds the source of a leg, too, and keeps the eight newest", async () => {
  const { offers, ports, relay } = await startJoinedPair();
  const address = (n: number) => `127.0.0.${10 + n}`;
  for (let n = 0; n < 8; n++) {
    const also = dial(relay.port, "127.0.0.1", address(n));
    also.write(n % 2 === 0 ? alsoHeader(offers[1]) : legHeader(offers[1], { openId: n }));
    if (n % 2 === 0) expect(await also.whenEnded()).toBe("end");
    else {
      const peer = dialStream(offers[0], { openId: n });
      peer.write("x");
      await also.bytes(1);
    }
  }
  // The session's own and seven more: the first of the eight had to go.
  expect(await dial(ports[0][1], "127.0.0.1", address(0)).whenEnded()).toBe("reset");
  for (const from of ["127.0.0.1", address(1), address(7)]) {
    const b = dial(ports[0][1], "127.0.0.1", from);
    const a = dial(ports[0][0]);
    a.write("x");
    await b.bytes(1);
  }
});

it("holds splices of both places to the limits of one allocation", async () => {
  const { offers, ports, metrics, relay } = await startJoinedPair({}, { splices: 1 });
  const [a, b] = [dial(ports[0][0]), dial(ports[0][1])];
  a.write("x");
  await b.bytes(1);
  const refused = [dialStream(offers[0]), dialStream(offers[1])];
  expect(await Promise.all(refused.map((leg) => leg.whenEnded()))).toEqual(["reset", "reset"]);
  await relay.stop();
  expect(await metrics.value("closed_total", { at: "stream", reason: "splice-limit" })).toBe(1);
});

it("ends its legs when the allocation is released", async () => {
  const { offers, isb, daemons } = await startJoinedPair();
  const { allocation } = offers[0];
  const waiting = dialStream(offers[0], { openId: 1 });
  const spliced = [dialStream(offers[0], { openId: 3 }), dialStream(offers[1], { openId: 3 })];
  spliced[0]!.write("x");
  await spliced[1]!.bytes(1);
  await isb.release(allocation, "revoked");
  for (const leg of [waiting, ...spliced]) expect(await leg.whenEnded()).toBe("reset");
  for (const daemon of daemons) expect(await daemon.released.next()).toEqual({ allocation, code: "revoked" });
});
