import { randomBytes, randomInt } from "node:crypto";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { PROTOCOLS, type Protocol } from "../gateway.ts";
import { mappedAddress, PCP_RESULT } from "../port-control/pcp-packet.ts";
import { PROTOCOL_NUMBERS } from "../port-control/port-control.ts";
import type { FakeMappings } from "./fake-mappings.ts";
import type { FakeSettings } from "./fake-settings.ts";

const FIRST_PORT = 1024;
const LONGEST_LIFETIME_S = 86_400;
/** How long a refusal stands. */
const REFUSED_S = 30;
const OPTION_PREFER_FAILURE = 2;

interface Wish {
  protocol: Protocol;
  client: string;
  internalPort: number;
  externalPort: number;
  lifetimeSeconds: number;
  nonce?: string;
}

interface Grant {
  result: number;
  externalPort: number;
  lifetimeSeconds: number;
}

/** The fake's port 5351: PCP and NAT-PMP, as miniupnpd 2.3.1 answers them. */
export class FakePortControl {
  /** Datagrams that came. */
  heard = 0;
  readonly #settings: FakeSettings;
  readonly #mappings: FakeMappings;
  #socket: Socket | undefined;
  #bornMs = 0;

  constructor(settings: FakeSettings, mappings: FakeMappings) {
    this.#settings = settings;
    this.#mappings = mappings;
  }

  /** @param port 0 for any; the same again after a restart; @param ageSeconds of which the clock shall tell */
  async start(port: number, ageSeconds: number): Promise<void> {
    const socket = createSocket("udp4");
    socket.on("message", (datagram, { address, port: from }) => void this.#serve(socket, datagram, address, from));
    socket.bind(port, this.#settings.address);
    await once(socket, "listening");
    this.#socket = socket;
    this.#bornMs = performance.now() - ageSeconds * 1000;
  }

  stop(): void {
    this.#socket?.close();
    this.#socket = undefined;
  }

  get port(): number {
    return this.#socket?.address().port ?? 0;
  }

  /** Seconds since the gateway forgot everything. */
  get epoch(): number {
    return Math.floor((performance.now() - this.#bornMs) / 1000);
  }

  /** What is sent to everybody after a start: RFC 6886, 3.2.1, and RFC 6887, 14.1.1. */
  get announcements(): Buffer[] {
    const { pcp, natPmp } = this.#settings;
    return [...(pcp ? [this.#pcpHeader(0, PCP_RESULT.success, 0)] : []), ...(natPmp ? [this.#addressAnswer()] : [])];
  }

  async #serve(socket: Socket, datagram: Buffer, address: string, port: number): Promise<void> {
    const { datagrams, delayMs } = this.#settings;
    const turn = this.heard++;
    const isLost = datagrams === "lossy" && turn % 2 === 0;
    if (datagrams === "hang" || isLost) return;
    const answer = this.#answer(datagram, address);
    if (!answer) return;
    if (delayMs > 0) await sleep(delayMs);
    if (socket !== this.#socket) return;
    if (datagrams === "garbage" || datagrams === "noisy") socket.send(randomBytes(randomInt(1, 100)), port, address);
    if (datagrams === "mistaken") socket.send(mistaken(answer), port, address);
    else if (datagrams !== "garbage") socket.send(answer, port, address);
  }

  #answer(datagram: Buffer, client: string): Buffer | undefined {
    const [version = -1, opcode = 0] = datagram;
    if (version === 0 && this.#settings.natPmp) return this.#natPmp(datagram, client);
    if (version === 2 && this.#settings.pcp) return this.#pcp(datagram, opcode, client);
    // What it does not know, it answers in the newest form that it knows.
    if (this.#settings.natPmp) return natPmpHeader(opcode, 1, this.epoch);
    return this.#settings.pcp ? this.#pcpHeader(opcode, PCP_RESULT.unsupportedVersion, 0) : undefined;
  }

  #natPmp(datagram: Buffer, client: string): Buffer | undefined {
    const opcode = datagram[1] ?? 0;
    if (opcode === 0) return this.#addressAnswer();
    const protocol = opcode === 1 ? "udp" : opcode === 2 ? "tcp" : undefined;
    if (!protocol || datagram.length < 12) return natPmpHeader(opcode, 5, this.epoch);
    const internalPort = datagram.readUInt16BE(4);
    const grant = this.#grant({
      protocol,
      client,
      internalPort,
      externalPort: datagram.readUInt16BE(6),
      lifetimeSeconds: datagram.readUInt32BE(8),
    });
    const body = Buffer.alloc(8);
    body.writeUInt16BE(internalPort, 0);
    body.writeUInt16BE(grant.externalPort, 2);
    body.writeUInt32BE(grant.lifetimeSeconds, 4);
    const result = grant.result === PCP_RESULT.noResources ? 4 : grant.result;
    return Buffer.concat([natPmpHeader(opcode, result, this.epoch), body]);
  }

  #pcp(datagram: Buffer, opcode: number, client: string): Buffer | undefined {
    if (opcode === 0) return this.#pcpHeader(0, PCP_RESULT.success, 0);
    if (opcode !== 1) return this.#pcpHeader(opcode, PCP_RESULT.unsupportedOpcode, 0);
    if (datagram.length < 60 || datagram.length % 4 !== 0) {
      return this.#pcpHeader(opcode, PCP_RESULT.malformedRequest, 0);
    }
    const body = Buffer.from(datagram.subarray(24, 60));
    const protocol = PROTOCOLS.find((name) => PROTOCOL_NUMBERS[name] === body[12]);
    if (!protocol) return this.#pcpHeader(opcode, PCP_RESULT.unsupportedProtocol, 0);
    if (!datagram.subarray(8, 24).equals(mappedAddress(client))) {
      return this.#pcpHeader(opcode, PCP_RESULT.addressMismatch, 0);
    }
    const wanted = body.readUInt16BE(18);
    const prefersFailure = datagram.length > 60 && datagram[60] === OPTION_PREFER_FAILURE;
    if (prefersFailure && this.#settings.preferFailure === "unknown") {
      return Buffer.concat([this.#pcpHeader(opcode, PCP_RESULT.unsupportedOption, 0), body]);
    }
    const holder = this.#mappings.find(protocol, wanted);
    if (prefersFailure && this.#settings.preferFailure === "honoured" && holder && holder.internalAddress !== client) {
      return Buffer.concat([this.#pcpHeader(opcode, PCP_RESULT.cannotProvideExternal, REFUSED_S), body]);
    }
    const grant = this.#grant({
      protocol,
      client,
      internalPort: body.readUInt16BE(16),
      externalPort: wanted,
      lifetimeSeconds: datagram.readUInt32BE(4),
      nonce: body.subarray(0, 12).toString("hex"),
    });
    body.writeUInt16BE(grant.externalPort, 18);
    mappedAddress(this.#settings.externalAddress).copy(body, 20);
    return Buffer.concat([this.#pcpHeader(opcode, grant.result, grant.lifetimeSeconds), body]);
  }

  /** A taken port gets another one. */
  #grant(wish: Wish): Grant {
    const { protocol, client, internalPort, lifetimeSeconds, nonce } = wish;
    const existing = this.#mappings.findInner(protocol, client, internalPort);
    if (lifetimeSeconds === 0) {
      const isForeign = nonce !== undefined && existing?.nonce !== undefined && existing.nonce !== nonce;
      if (isForeign) return { result: PCP_RESULT.notAuthorized, externalPort: 0, lifetimeSeconds: 0 };
      if (!existing && nonce !== undefined) {
        return { result: PCP_RESULT.noResources, externalPort: 0, lifetimeSeconds: 0 };
      }
      if (existing) this.#mappings.delete(protocol, existing.externalPort);
      return { result: PCP_RESULT.success, externalPort: 0, lifetimeSeconds: 0 };
    }
    if (!existing && this.#mappings.all.length >= this.#settings.room) {
      return { result: PCP_RESULT.noResources, externalPort: 0, lifetimeSeconds: REFUSED_S };
    }
    let externalPort = existing?.externalPort ?? Math.max(wish.externalPort, FIRST_PORT);
    while (!existing && this.#mappings.find(protocol, externalPort)) externalPort++;
    const granted = Math.min(lifetimeSeconds, LONGEST_LIFETIME_S);
    this.#mappings.set({
      protocol,
      externalPort,
      internalAddress: client,
      internalPort,
      description: "fake",
      remoteHost: "",
      expiresAtMs: performance.now() + granted * 1000,
      ...(nonce !== undefined && { nonce }),
    });
    return { result: PCP_RESULT.success, externalPort, lifetimeSeconds: granted };
  }

  #addressAnswer(): Buffer {
    const address = Buffer.from(this.#settings.externalAddress.split(".").map(Number));
    return Buffer.concat([natPmpHeader(0, 0, this.epoch), address]);
  }

  #pcpHeader(opcode: number, result: number, lifetimeSeconds: number): Buffer {
    const header = Buffer.alloc(24);
    header[0] = 2;
    header[1] = 0x80 | opcode;
    header[3] = result;
    header.writeUInt32BE(lifetimeSeconds, 4);
    header.writeUInt32BE(this.epoch, 8);
    return header;
  }
}

function natPmpHeader(opcode: number, result: number, epoch: number): Buffer {
  const header = Buffer.alloc(8);
  header[1] = 0x80 | opcode;
  header.writeUInt16BE(result, 2);
  header.writeUInt32BE(epoch, 4);
  return header;
}

/** The answer to a question about another inner port. */
function mistaken(answer: Buffer): Buffer {
  const copy = Buffer.from(answer);
  const at = copy[0] === 2 ? 40 : 8;
  if (copy.length >= at + 2) copy.writeUInt16BE((copy.readUInt16BE(at) + 1) & 0xff_ff, at);
  else copy[1] = 0x80 | 7;
  return copy;
}
