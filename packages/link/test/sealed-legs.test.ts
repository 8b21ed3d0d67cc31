import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { setTimeout } from "node:timers/promises";
import { createRecordSealer } from "@isthmus/native";
import { thePump } from "@isthmus/native/pump";
import {
  type Code,
  END_OF_STREAM,
  encodeLinkControl,
  HANDSHAKE_OPEN,
  KEY_UPDATE,
  type LinkControlMessage,
  RECORD_OVERHEAD_BYTES,
  RECORD_TYPE,
  type Rendezvous,
} from "@isthmus/protocol";
import fc from "fast-check";
import { afterEach, describe, expect, test, vi } from "vitest";
import { recordKeys } from "../src/keys/generation.ts";
import { LegStream } from "../src/leg/leg-stream.ts";
import { listenTo, SocketEndpoint } from "../src/leg/socket-endpoint.ts";
import { AnswererStream } from "../src/open/answerer-stream.ts";
import type { StreamEnvironment } from "../src/open/stream.ts";
import { agreement } from "./agreement.ts";

const RENDEZVOUS: Rendezvous = { at: "direct" };
const OPEN: LinkControlMessage = {
  t: "open",
  id: 0,
  attempt: 0,
  rendezvous: RENDEZVOUS,
  plain: false,
  proto: "tcp",
  subscription: Buffer.alloc(16, 5).toString("base64url"),
  channel: "tcp",
  opener: "subscriber",
};
/** So few that keys are updated all the time. */
const RECORDS_PER_KEY = 5;
const { alert: ALERT, handshake: HANDSHAKE, data: DATA } = RECORD_TYPE;

const sockets: Socket[] = [];
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
});

/** The daemon's end of a connection, and the other one. */
async function connection(): Promise<{ near: Socket; far: Socket }> {
  const server = createServer({ allowHalfOpen: true, noDelay: true }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  const accepted = once(server, "connection") as Promise<[Socket]>;
  const far = connect({ host: "127.0.0.1", port, allowHalfOpen: true, noDelay: true });
  far.on("error", () => undefined);
  const [near] = await accepted;
  server.close();
  sockets.push(near, far);
  return { near, far };
}

/** One that keeps to JavaScript, as where there is no add-on. */
class UnjoinedEndpoint extends SocketEndpoint {
  override joinWith(): boolean {
    return false;
  }
}

interface Met {
  /** The service's end of its connection, and the peer's end of the leg. */
  service: Socket;
  wire: Socket;
  /** What the peer seals and opens with; this side's preface is still to be read. */
  peer: LegStream;
  /** Seals what the peer never would, in its place. */
  record: (type: number, ...content: number[]) => Buffer;
  /** Of the daemon's: it is handed over, or not. */
  app: Socket;
  ended: Promise<Code>;
}

/**
 * A stream that has met its peer on a leg, with both connections.
 * @param early what has arrived with the preface, and of the service, when the stream comes to be joined
 */
async function meet(
  Endpoint: typeof SocketEndpoint,
  early?: (peer: LegStream) => { leg: Buffer; app: Buffer },
): Promise<Met> {
  const [app, leg] = [await connection(), await connection()];
  const ended = Promise.withResolvers<Code>();
  const env: StreamEnvironment = {
    now: () => performance.now(),
    wake: () => undefined,
    dial: () => undefined,
    tell: () => undefined,
    settled: () => undefined,
    ended: (_, code) => ended.resolve(code),
  };
  const keys = agreement();
  const shared = { openId: 0, attempt: 0, plain: false, recordsPerKey: RECORDS_PER_KEY };
  const peer = new LegStream({ generation: keys.initiator, ...shared });
  const codec = new LegStream({ generation: keys.responder, ...shared });
  const preface = peer.preface();
  const { key, iv } = recordKeys(keys.initiator.send.leg(0, 0, preface.subarray(16, 32)));
  const forger = createRecordSealer(keys.initiator.suite, key, iv);
  codec.receive(preface, () => undefined);

  const stream = new AnswererStream(env, { generation: keys.responder, openId: 0, plain: false, timeoutMs: 10_000 });
  stream.attach(new Endpoint(app.near));
  listenTo(app.near, {
    data: (chunk) => stream.appData(chunk),
    end: () => stream.appEnd(),
    drained: () => stream.appDrained(),
    lost: () => stream.appLost(),
  });
  stream.serviceConnected();
  const taken = stream.take(0, RENDEZVOUS, codec, new Endpoint(leg.near))!;
  listenTo(leg.near, {
    data: (chunk) => taken.data(chunk),
    end: () => taken.end(),
    drained: () => taken.drained(),
    lost: () => taken.lost("leg-lost"),
  });
  const bytes = early?.(peer);
  if (bytes) {
    taken.data(bytes.leg);
    stream.appData(bytes.app);
  }
  return {
    service: app.far,
    wire: leg.far,
    peer,
    record: (type, ...content) => forger.seal(Buffer.from(content), type),
    app: app.near,
    ended: ended.promise,
  };
}

/** Bytes that repeat nowhere near. */
function bytesOf(length: number, seed: number): Buffer {
  const bytes = Buffer.allocUnsafeSlow(length);
  for (let index = 0; index < length; index++) bytes[index] = (index * 31 + (index >> 8) * 7 + seed) & 0xff;
  return bytes;
}

/** What was read before the connection ended, and how it ended. */
async function readAll(socket: Socket): Promise<{ bytes: Buffer; end: string }> {
  const chunks: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => chunks.push(chunk));
  await new Promise<void>((resolve) => {
    socket.once("end", resolve);
    socket.once("close", resolve);
  });
  const error = socket.errored as NodeJS.ErrnoException | null;
  return { bytes: Buffer.concat(chunks), end: error?.code ?? (socket.readableEnded ? "FIN" : "closed") };
}

/** Of a connection that is reset now or was already: also one whose reading has ended notices by what it sends. */
async function failureOf(socket: Socket): Promise<string | undefined> {
  socket.resume();
  const writing = setInterval(() => socket.write("x"), 5);
  if (!socket.closed) await new Promise((resolve) => socket.once("close", resolve));
  clearInterval(writing);
  return (socket.errored as NodeJS.ErrnoException | null)?.code;
}

/** All that came on the leg, as the peer reads it; the wire's FIN must come behind the sealed end. */
async function readLeg({ wire, peer }: Met): Promise<Buffer> {
  const chunks: Buffer[] = [];
  wire.on("data", (chunk: Buffer) => {
    peer.receive(Buffer.from(chunk), (event) => {
      if (event.is === "data") chunks.push(Buffer.from(event.data));
    });
  });
  await once(wire, "end");
  expect(peer.ended, "the sealed end came before the FIN").toBe(true);
  return Buffer.concat(chunks);
}

/** Writes in pieces of these lengths, each in a packet of its own as far as the kernel lets it. */
async function writeCut(socket: Socket, bytes: Buffer, lengths: readonly number[]): Promise<void> {
  const least = Math.ceil(bytes.length / 200);
  for (let from = 0, turn = 0; from < bytes.length; turn++) {
    const length = Math.max(lengths[turn % lengths.length]!, least);
    if (!socket.write(bytes.subarray(from, from + length))) await once(socket, "drain");
    else if (turn % 3 === 0) await new Promise(setImmediate);
    from += length;
  }
}

const size = fc.oneof(
  fc.integer({ min: 1, max: 40 }),
  fc.constantFrom(16_383, 16_384, 16_385, 65_536, 65_537),
  fc.integer({ min: 1, max: 300_000 }),
);
const sizes = fc.array(size, { minLength: 1, maxLength: 8 });

const ways = [
  { name: "native threads", Endpoint: SocketEndpoint },
  { name: "JavaScript", Endpoint: UnjoinedEndpoint },
].filter(({ Endpoint }) => thePump() || Endpoint === UnjoinedEndpoint);

describe.each(ways)("a sealed leg moved by $name", ({ Endpoint }) => {
  const isNative = Endpoint === SocketEndpoint;

  test("brings all bytes both ways, however they are cut, through updates of keys, and ends in order", async () => {
    await fc.assert(
      fc.asyncProperty(sizes, sizes, sizes, fc.boolean(), async (toService, toPeer, cuts, serviceFirst) => {
        const met = await meet(Endpoint);
        const said = toService.map((length, index) => bytesOf(length, index));
        const answered = Buffer.concat(toPeer.map((length, index) => bytesOf(length, index + 100)));
        const { service, wire, peer } = met;
        const heard = [readAll(service), readLeg(met)] as const;
        const speak = async (): Promise<void> => {
          await writeCut(wire, Buffer.concat([...said.map((chunk) => peer.seal(chunk)), peer.end()!]), cuts);
          wire.end();
        };
        const answer = async (): Promise<void> => {
          await writeCut(service, answered, cuts);
          service.end();
        };
        // One direction ends while the other one still moves, or both move at once.
        if (serviceFirst) await Promise.all([answer(), speak()]);
        else await speak().then(answer);
        const [atService, atPeer] = await Promise.all(heard);
        expect(atService.end).toBe("FIN");
        expect(atService.bytes.equals(Buffer.concat(said))).toBe(true);
        expect(atPeer.equals(answered)).toBe(true);
        expect(await met.ended).toBe("finished");
        for (const socket of sockets.splice(0)) socket.destroy();
      }),
      { numRuns: 25 },
    );
  });

  test("goes on with what Node has read: a part of a record, and bytes that are not sealed yet", async () => {
    let rest = Buffer.alloc(0);
    const met = await meet(Endpoint, (peer) => {
      const records = Buffer.concat([peer.seal(Buffer.from("one ")), peer.seal(Buffer.from("two "))]);
      rest = Buffer.from(records.subarray(-10));
      return { leg: Buffer.from(records.subarray(0, -10)), app: Buffer.from("early ") };
    });
    const { service, wire, peer, app } = met;
    const heard = [readAll(service), readLeg(met)] as const;
    wire.write(rest);
    wire.end(Buffer.concat([peer.seal(Buffer.from("three")), peer.end()!]));
    service.end("late");
    expect((await heard[0]).bytes.toString()).toBe("one two three");
    expect((await heard[1]).toString()).toBe("early late");
    expect(await met.ended).toBe("finished");
    if (isNative) expect(app.destroyed, "Node let go of it").toBe(true);
  });

  test("goes on behind updates of both keys", async () => {
    const [asked, answered] = [bytesOf(2 * RECORDS_PER_KEY + 1, 1), bytesOf((RECORDS_PER_KEY + 1) * 16_384, 2)];
    const met = await meet(Endpoint, (peer) => ({
      leg: Buffer.concat(Array.from(asked, (byte) => peer.seal(Buffer.of(byte)))),
      app: Buffer.from(answered),
    }));
    const { service, wire, peer, app } = met;
    const heard = [readAll(service), readLeg(met)] as const;
    wire.end(Buffer.concat([peer.seal(Buffer.from("late")), peer.end()!]));
    service.end("late");
    expect((await heard[0]).bytes.equals(Buffer.concat([asked, Buffer.from("late")]))).toBe(true);
    expect((await heard[1]).equals(Buffer.concat([answered, Buffer.from("late")]))).toBe(true);
    expect(await met.ended).toBe("finished");
    if (isNative) expect(app.destroyed, "Node let go of it").toBe(true);
  });

  test("does not wait for more: single bytes go to and fro", async () => {
    const { service, wire, peer } = await meet(Endpoint);
    service.pipe(service);
    let heard = "";
    const answers = new EventTarget();
    wire.on("data", (chunk: Buffer) => {
      peer.receive(Buffer.from(chunk), (event) => {
        if (event.is !== "data") return;
        heard += event.data.toString();
        answers.dispatchEvent(new Event("data"));
      });
    });
    for (let turn = 0; turn < 60; turn++) {
      const answer = once(answers, "data");
      wire.write(peer.seal(Buffer.from(String(turn % 10))));
      await answer;
    }
    expect(heard).toBe("0123456789".repeat(6));
  });

  test.each<{ what: string; bytes: (record: (type: number, ...content: number[]) => Buffer) => Buffer }>([
    { what: "another kind of record", bytes: () => Buffer.from([0x16, 3, 3, 0, 40]) },
    { what: "another version", bytes: () => Buffer.from([0x17, 3, 4]) },
    { what: "a body too short for any record", bytes: () => Buffer.from([0x17, 3, 3, 0, 17]) },
    { what: "a body longer than a record may be", bytes: () => Buffer.from([0x17, 3, 3, 0x40, 0x12]) },
    { what: "a record of no known type", bytes: (record) => record(24, 1) },
    { what: "an alert that is no end", bytes: (record) => record(ALERT, 2, 0) },
    { what: "an end with more in it", bytes: (record) => record(ALERT, 1, 0, 0) },
    { what: "a handshake of no known kind", bytes: (record) => record(HANDSHAKE, 25, 0, 0, 1, 0) },
    { what: "a second open", bytes: (record) => record(HANDSHAKE, HANDSHAKE_OPEN, ...encodeLinkControl(OPEN)) },
    { what: "a key update with a request", bytes: (record) => record(HANDSHAKE, ...KEY_UPDATE.slice(0, -1), 1) },
    { what: "a key update that is cut", bytes: (record) => record(HANDSHAKE, ...KEY_UPDATE.slice(0, -1)) },
    {
      what: "a record under the key before the update",
      bytes: (record) => Buffer.concat([record(HANDSHAKE, ...KEY_UPDATE), record(DATA, 65)]),
    },
    {
      what: "a record behind the end",
      bytes: (record) => Buffer.concat([record(ALERT, ...END_OF_STREAM), record(DATA, 65)]),
    },
    {
      what: "a second end",
      bytes: (record) => Buffer.concat([record(ALERT, ...END_OF_STREAM), record(ALERT, ...END_OF_STREAM)]),
    },
    { what: "a record twice", bytes: (record) => Buffer.concat(Array<Buffer>(2).fill(record(DATA, 65))) },
    { what: "a record that was left out", bytes: (record) => [record(DATA, 65), record(DATA, 66)][1]! },
  ])("resets both for $what", async ({ bytes }) => {
    const met = await meet(Endpoint);
    const { service, wire, record } = met;
    wire.write(record(DATA, ...Buffer.from("good")));
    const heard = readAll(service);
    await once(service, "data");
    const lost = readAll(wire);
    wire.write(bytes(record));
    expect(await met.ended).toBe("bad-record");
    expect((await heard).bytes.toString()).toMatch(/^goodA?$/);
    expect(await failureOf(service)).toMatch(/^(ECONNRESET|EPIPE)$/);
    expect((await lost).end).toBe("ECONNRESET");
  });

  test("resets for a record of which any byte is another one, and hands nothing of it on", async () => {
    const body = bytesOf(100, 1);
    const length = body.length + RECORD_OVERHEAD_BYTES;
    // All of the header, beginning, middle and end of the body, its type, all of the tag.
    const places = [0, 1, 2, 3, 4, 5, 6, 50, ...Array.from({ length: 18 }, (_, index) => length - 18 + index)];
    for (const [turn, place] of places.entries()) {
      const { service, wire, record, ended } = await meet(Endpoint);
      const heard = readAll(service);
      const good = record(DATA, ...Buffer.from("good"));
      const other = record(DATA, ...body);
      other[place]! ^= 1 << (turn % 8);
      wire.resume();
      // A length that has grown asks for bytes that never come.
      wire.end(Buffer.concat([good, other]));
      expect(await ended).toMatch(/^(bad-record|leg-lost)$/);
      const { bytes, end } = await heard;
      expect({ end, text: "good".startsWith(bytes.toString()) }, `byte ${place}`).toEqual({
        end: "ECONNRESET",
        text: true,
      });
    }
  });

  test.each<{ what: string; act: (met: Met) => void; code: Code }>([
    { what: "FIN of the leg without the sealed end", act: ({ wire }) => wire.end(), code: "leg-lost" },
    {
      what: "FIN of the leg within a record",
      act: ({ wire, record }) => wire.end(record(DATA, 1, 2, 3).subarray(0, -1)),
      code: "leg-lost",
    },
    { what: "FIN of the leg within a header", act: ({ wire }) => wire.end(Buffer.from([0x17, 3])), code: "leg-lost" },
    { what: "a reset of the leg", act: ({ wire }) => wire.resetAndDestroy(), code: "leg-lost" },
    {
      what: "a reset of the leg behind its sealed end",
      act: ({ wire, record }) => wire.write(record(ALERT, ...END_OF_STREAM), () => wire.resetAndDestroy()),
      code: "leg-lost",
    },
    {
      what: "a reset of the application",
      act: ({ service }) => service.resetAndDestroy(),
      code: "application-reset",
    },
    {
      what: "a reset of the application behind the peer's end",
      act: ({ service, wire, record }) => {
        service.once("end", () => service.resetAndDestroy());
        wire.write(record(ALERT, ...END_OF_STREAM));
      },
      code: "application-reset",
    },
  ])("is no clean end: $what", async ({ act, code }) => {
    const met = await meet(Endpoint);
    const { service, wire, record } = met;
    wire.write(record(DATA, ...Buffer.from("good")));
    wire.resume();
    service.resume();
    await once(service, "data");
    act(met);
    expect(await met.ended).toBe(code);
    if (!service.destroyed) expect(await failureOf(service)).toMatch(/^(ECONNRESET|EPIPE)$/);
    if (!wire.destroyed) expect(await failureOf(wire)).toMatch(/^(ECONNRESET|EPIPE)$/);
  });

  test.each(["the peer", "the application"])(
    "half of it that has ended leaves the other half alone: %s first",
    async (first) => {
      const met = await meet(Endpoint);
      const { service, wire, peer } = met;
      const heard = [readAll(service), readLeg(met)] as const;
      const [answers, asks] = [bytesOf(500_000, 1), bytesOf(500_000, 2)];
      const endPeer = (): Socket => wire.end(Buffer.concat([peer.seal(asks), peer.end()!]));
      if (first === "the peer") {
        endPeer();
        expect((await heard[0]).end).toBe("FIN");
        service.end(answers);
      } else {
        service.end(answers);
        expect((await heard[1]).equals(answers)).toBe(true);
        endPeer();
      }
      expect((await heard[0]).bytes.equals(asks)).toBe(true);
      expect((await heard[1]).equals(answers)).toBe(true);
      expect(await met.ended).toBe("finished");
    },
  );

  test("stops reading the one that is ahead of the other", async () => {
    const { service, wire, peer } = await meet(Endpoint);
    wire.pause();
    const chunk = Buffer.alloc(65_536);
    let written = 0;
    // Much more than sockets of this host keep between them.
    const write = (): void => {
      while (written < 64_000_000 && service.write(chunk)) written += chunk.length;
    };
    service.on("drain", write);
    write();
    await vi.waitFor(
      async () => {
        const before = service.bytesWritten - service.writableLength;
        await setTimeout(300);
        expect(service.bytesWritten - service.writableLength).toBe(before);
      },
      { timeout: 20_000 },
    );
    expect(written).toBeLessThan(64_000_000);
    // The other direction goes on.
    const heard = once(service, "data");
    wire.write(peer.seal(Buffer.from("still there")));
    expect(String((await heard)[0])).toBe("still there");
  });
});

test("a leg that is handed over leaves none of its secrets behind", () => {
  const keys = agreement();
  const shared = { openId: 0, attempt: 0, plain: false };
  const ours = new LegStream({ generation: keys.initiator, ...shared });
  const theirs = new LegStream({ generation: keys.responder, ...shared });
  ours.preface();
  expect(ours.handOver(), "without the peer's preface").toBe(undefined);
  ours.receive(theirs.preface(), () => undefined);
  const { send, receive } = ours.handOver()!;
  ours.handedOver();
  expect([send.secret, receive.secret]).toEqual([Buffer.alloc(32), Buffer.alloc(32)]);
  expect(ours.handOver()).toBe(undefined);
  expect(() => ours.seal(Buffer.from("x"))).toThrow();
});
