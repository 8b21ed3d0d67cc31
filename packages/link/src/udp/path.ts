import { createDatagramOpener, createDatagramSealer, type DatagramOpener, type DatagramSealer } from "@isthmus/native";
import {
  DATAGRAM_OVERHEAD_BYTES,
  DATAGRAM_TYPE,
  type DatagramType,
  decodeDatagramHeader,
  encodeDatagramHeader,
  generationBits,
  partsOf,
  type Rendezvous,
  wholePayload,
} from "@isthmus/protocol";
import { ReplayWindow } from "../control/replay-window.ts";
import type { Generation } from "../keys/generation.ts";
import { PathHealth } from "./path-health.ts";
import type { Part } from "./reassembly.ts";

/** What carries a path's datagrams: a UDP socket of its own, the leg port's, or a stream. */
export interface DatagramCarrier {
  send(datagram: Buffer): void;
  close(): void;
}

/** Application data that arrived on a path. */
export interface ReceivedDatagram {
  flow: number;
  part?: Part | undefined;
  payload: Buffer;
}

const NONCE_BYTES = 8;

/**
 * One UDP path of a link: seals and opens its datagrams, answers hellos and judges its health. The keys are its own, so
 * that datagrams of another path are forgeries here.
 */
export class UdpPath {
  readonly id: number;
  readonly generation: Generation;
  readonly rendezvous: Rendezvous;
  readonly health: PathHealth;
  readonly since: number;
  readonly #bits: number;
  readonly #sealer: DatagramSealer;
  readonly #opener: DatagramOpener;
  readonly #window = new ReplayWindow();
  #counter = 0n;
  #message = 0;
  carrier: DatagramCarrier | undefined;
  /** Datagrams that were none of ours: forged, repeated or malformed. */
  refused = 0;
  /** Both directions worked once. */
  wasUp = false;
  /** A better one has taken its place: it still hears until then. */
  leavesAt: number | undefined;
  /** When the peer is told of it again, unless it is proved by then; nothing where the peer told of it. */
  tellAt: number | undefined;

  constructor(generation: Generation, id: number, rendezvous: Rendezvous, now: number) {
    this.id = id;
    this.generation = generation;
    this.rendezvous = rendezvous;
    this.since = now;
    this.health = new PathHealth(now);
    this.#bits = generationBits(generation.id);
    this.#sealer = createDatagramSealer(generation.suite, generation.send.udp(id));
    this.#opener = createDatagramOpener(generation.suite, generation.receive.udp(id));
  }

  /** Sends one application datagram, in parts if it does not fit the path. */
  send(flow: number, payload: Buffer, now: number): void {
    this.health.sent(now);
    const pathBytes = this.health.bytes;
    if (payload.length <= wholePayload(pathBytes)) {
      this.#write(DATAGRAM_TYPE.data, flow, payload);
      return;
    }
    const count = partsOf(payload.length, pathBytes);
    const size = Math.ceil(payload.length / count);
    const message = this.#message;
    this.#message = (this.#message + 1) & 0xffff;
    for (let index = 0; index < count; index++) {
      const part = payload.subarray(index * size, (index + 1) * size);
      this.#write(DATAGRAM_TYPE.part, flow, part, { message, index, count });
    }
  }

  /** Sends the hellos that are due. */
  tick(now: number): void {
    for (const { nonce, bytes } of this.health.tick(now)) {
      const payload = Buffer.alloc(bytes - DATAGRAM_OVERHEAD_BYTES);
      payload.writeBigUInt64BE(nonce);
      this.#write(DATAGRAM_TYPE.hello, 0, payload);
    }
  }

  /** Takes a datagram from the carrier. @returns application data, if it was that */
  receive(datagram: Buffer, now: number): ReceivedDatagram | undefined {
    const decoded = decodeDatagramHeader(datagram);
    const counter = decoded ? Number(decoded.header.counter) : Number.NaN;
    if (
      !decoded ||
      !Number.isSafeInteger(counter) ||
      decoded.header.generationBits !== this.#bits ||
      !this.#window.isNew(counter)
    ) {
      this.refused++;
      return undefined;
    }
    const { header, length } = decoded;
    const payload = this.#opener.open(datagram, length, header.counter);
    if (!payload) {
      this.refused++;
      return undefined;
    }
    this.#window.take(counter);
    switch (header.type) {
      case DATAGRAM_TYPE.hello:
        this.#answerHello(payload, datagram.length);
        return undefined;
      case DATAGRAM_TYPE.helloAnswer:
        if (payload.length >= NONCE_BYTES + 2) {
          this.health.answered(payload.readBigUInt64BE(), payload.readUInt16BE(NONCE_BYTES), now);
          this.wasUp ||= this.health.state === "up";
        }
        return undefined;
      default:
        return { flow: header.flow, part: header.part, payload };
    }
  }

  close(): void {
    this.carrier?.close();
    this.carrier = undefined;
  }

  #answerHello(payload: Buffer, datagramBytes: number): void {
    if (payload.length < NONCE_BYTES) return;
    const answer = Buffer.alloc(NONCE_BYTES + 2);
    payload.copy(answer, 0, 0, NONCE_BYTES);
    answer.writeUInt16BE(Math.min(datagramBytes, 0xffff), NONCE_BYTES);
    this.#write(DATAGRAM_TYPE.helloAnswer, 0, answer);
  }

  #write(type: DatagramType, flow: number, payload: Buffer, part?: Part): void {
    const counter = this.#counter++;
    const header = encodeDatagramHeader({ type, generationBits: this.#bits, flow, counter, ...(part ? { part } : {}) });
    this.carrier?.send(this.#sealer.seal(header, counter, payload));
  }
}
