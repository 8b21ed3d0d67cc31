import { EEXIST, type Shape, type SpliceObject } from "@isthmus/native/bpf";
import { IST_FAMILY, type IstHalf, type IstReason, type IstSplice, type IstStats } from "@isthmus/native/netlink";
import { type AllocationLimits, IsthmusError, type Side } from "@isthmus/protocol";
import type { CellPorts, ExpectedSources, FanoutGroup } from "../data-path.ts";
import { ipBytes, ipText } from "../kernel/ip-bytes.ts";
import { NS_PER_MS } from "./clock.ts";
import type { Route } from "./interfaces.ts";
import { SpliceLayout, StoredSplice } from "./stored-splice.ts";

const { mode: MODES, state: STATES, reason: REASONS } = IST_FAMILY.enums;
const ONLY = new Uint8Array(4);
const MAPPED = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
const ADDRESS_BITS = 128;
const MAPPED_BITS = 96;
/** Those of the trie's key in front of an address. */
const SOURCE_HEAD_BITS = 96;

/** Sides, as bits: whose SYN-ACK is still to be sent; and whether both ends are still to be told of the end. */
export interface SpliceNews {
  readonly splice: IstSplice & { id: bigint };
  readonly unanswered: number;
  readonly isDead: boolean;
}

export interface HalfNews {
  readonly half: IstHalf & { alloc: bigint; cell: number; side: Side };
}

/** A packet was dropped, and its sender is to be told. */
export interface PacketNews {
  readonly refused: bigint;
  /** The event's bytes. */
  readonly event: Buffer;
}

export interface AllocationSettings extends AllocationLimits {
  readonly udpIdleMs: number;
}

export type Answer = "none" | "ended" | "later";
const ANSWERS: readonly Answer[] = ["none", "ended", "later"];

/** What is in the maps of the BPF programs, in the words of the module's interface. */
export class SpliceMaps {
  readonly #object: SpliceObject;
  readonly #layout: SpliceLayout;
  /** Keys of ports that pure cells have learned, by the port of the cell's own that legs come from there. */
  readonly #learned = new Map<number, Buffer>();
  readonly #shapes: Readonly<
    Record<
      | "alloc"
      | "usage"
      | "port"
      | "source"
      | "cell_key"
      | "cell"
      | "receiver_key"
      | "splice"
      | "totals"
      | "counters"
      | "event"
      | "command",
      Shape
    >
  >;

  constructor(object: SpliceObject) {
    this.#object = object;
    const shape = (name: string): Shape => object.shape(`ist_bpf_${name}`);
    this.#shapes = {
      alloc: shape("alloc"),
      usage: shape("usage"),
      port: shape("port"),
      source: shape("source"),
      cell_key: shape("cell_key"),
      cell: shape("cell"),
      receiver_key: shape("receiver_key"),
      splice: shape("splice"),
      totals: shape("totals"),
      counters: shape("counters"),
      event: shape("event"),
      command: shape("command"),
    };
    this.#layout = new SpliceLayout(this.#shapes.splice);
  }

  /** Makes these the addresses of this host. @throws BpfError */
  setLocals(addresses: readonly Uint8Array[]): void {
    const wanted = new Map(addresses.map(mapped).map((key) => [key.toString("hex"), key]));
    for (const [key] of this.#object.entries("ist_locals", 16, 4)) {
      if (!wanted.delete(key.toString("hex"))) this.#object.delete("ist_locals", key);
    }
    for (const key of wanted.values()) this.#object.set("ist_locals", key, ONLY);
  }

  /** @throws BpfError */
  setAllocation(id: bigint, settings: AllocationSettings): void {
    const { alloc, usage } = this.#shapes;
    const value = alloc.blank();
    alloc.setNumber(value, "idle", settings.idleMs);
    alloc.setNumber(value, "total", settings.totalMs);
    alloc.setNumber(value, "bytes", settings.bytes);
    alloc.setNumber(value, "rate", settings.bytesPerSecond);
    alloc.setNumber(value, "splices", settings.splices);
    alloc.setNumber(value, "half", settings.halfMs);
    alloc.setNumber(value, "udp", settings.udpIdleMs);
    try {
      this.#object.add("ist_usage", idKey(id), usage.blank());
    } catch (error) {
      if ((error as { errno?: number }).errno !== EEXIST) throw error;
    }
    this.#object.set("ist_allocs", idKey(id), value);
    this.#countRevision();
  }

  /** @throws BpfError */
  deleteAllocation(id: bigint): void {
    this.#object.delete("ist_allocs", idKey(id));
    this.#countRevision();
    this.#object.delete("ist_usage", idKey(id));
  }

  /** From here on packets are held to what the allocations are now. */
  #countRevision(): void {
    const revision = this.#object.get("ist_revision", ONLY)!;
    revision.writeUInt32LE((revision.readUInt32LE() + 1) >>> 0);
    this.#object.set("ist_revision", ONLY, revision);
  }

  *allocations(): Generator<[id: bigint, settings: AllocationSettings]> {
    const { alloc } = this.#shapes;
    for (const [key, value] of this.#object.entries("ist_allocs", 8, alloc.bytes)) {
      yield [
        key.readBigUInt64LE(),
        {
          idleMs: alloc.number(value, "idle"),
          totalMs: alloc.number(value, "total"),
          bytes: alloc.number(value, "bytes"),
          bytesPerSecond: alloc.number(value, "rate"),
          splices: alloc.number(value, "splices"),
          halfMs: alloc.number(value, "half"),
          udpIdleMs: alloc.number(value, "udp"),
        },
      ];
    }
  }

  /** @param prefix as protocol's `sourcePrefix` makes it. @throws BpfError */
  addSource(alloc: bigint, side: Side, prefix: string): void {
    this.#object.set("ist_sources", this.#sourceKey(alloc, side, prefix), ONLY);
  }

  /** @throws BpfError */
  deleteSource(alloc: bigint, side: Side, prefix: string): void {
    this.#object.delete("ist_sources", this.#sourceKey(alloc, side, prefix));
  }

  /** The expected sources of an allocation, as {@link addSource} was given them. */
  sources(alloc: bigint): ExpectedSources {
    const { source } = this.#shapes;
    const found: [string[], string[]] = [[], []];
    for (const [key] of this.#object.entries("ist_sources", source.bytes, 4)) {
      if (source.big(key, "alloc") !== alloc) continue;
      const address = source.part(key, "addr.word");
      const isV4 = address.subarray(0, MAPPED.length).equals(MAPPED);
      const bits = source.number(key, "bits") - SOURCE_HEAD_BITS - (isV4 ? MAPPED_BITS : 0);
      const text = ipText(isV4 ? address.subarray(MAPPED.length) : address);
      found[source.number(key, "side") === 1 ? 1 : 0].push(`${text}/${bits}`);
    }
    return found;
  }

  /**
   * @param route to the group of a fan-out, if it has one
   * @throws BpfError; `EEXIST` when a port is another cell's
   */
  addCell(alloc: bigint, { cell, ports, pure, fanout }: CellPorts, route?: Route): void {
    const { cell: shape } = this.#shapes;
    const value = shape.blank();
    shape.setNumber(value, "mode", MODES.indexOf(fanout ? "fanout" : pure ? "pure" : "passive"));
    shape.setNumber(value, "receivers", fanout?.receivers ?? 0);
    if (fanout?.group && route) this.#setGroup(value, fanout.group, ports[1], route);
    shape.part(value, "port").writeUInt16LE(ports[0], 0);
    shape.part(value, "port").writeUInt16LE(ports[1], 2);
    this.#object.set("ist_cells", this.#cellKey(alloc, cell), value);
    const added: Side[] = [];
    try {
      for (const side of [0, 1] as const) {
        if (ports[side] === 0) continue;
        this.#object.add("ist_ports", cellPortKey({ cell, ports, pure }, side), this.#port(alloc, cell, side));
        added.push(side);
      }
    } catch (error) {
      for (const side of added) this.#object.delete("ist_ports", cellPortKey({ cell, ports, pure }, side));
      this.#object.delete("ist_cells", this.#cellKey(alloc, cell));
      throw error;
    }
  }

  /** Makes the side of a pure cell that learns reachable at a port. @throws BpfError */
  learn(alloc: bigint, { cell, ports }: CellPorts, learns: Side, port: number): void {
    const side = learns === 0 ? 1 : 0;
    const key = portKey(port, ports[learns]);
    this.#object.set("ist_ports", key, this.#port(alloc, cell, side));
    const before = this.#learned.get(ports[learns]);
    if (before && !before.equals(key)) this.#object.delete("ist_ports", before);
    this.#learned.set(ports[learns], key);
  }

  /** Finds what cells have learned that are there already. */
  recallLearned(cells: readonly CellPorts[]): void {
    const learning = new Set(
      cells.flatMap(({ ports, pure }) => (pure?.learns === undefined ? [] : [ports[pure.learns]])),
    );
    for (const [key] of this.#object.entries("ist_ports", 4, this.#shapes.port.bytes)) {
      const remote = key.readUInt16BE(2);
      if (learning.has(remote)) this.#learned.set(remote, Buffer.from(key));
    }
  }

  /** Ends what waits at a cell and removes it. @returns the UDP splices that held it. @throws BpfError */
  removeCell(alloc: bigint, cell: CellPorts, reason: IstReason): bigint[] {
    this.#command("end-cell", { alloc, cell: cell.cell, reason });
    const udp = this.udpAt(alloc, cell.cell);
    for (const side of [0, 1] as const) {
      if (cell.ports[side] !== 0) this.#object.delete("ist_ports", cellPortKey(cell, side));
    }
    const own = cell.pure?.learns === undefined ? 0 : cell.ports[cell.pure.learns];
    const learned = this.#learned.get(own);
    if (learned) this.#object.delete("ist_ports", learned);
    this.#learned.delete(own);
    this.#object.delete("ist_cells", this.#cellKey(alloc, cell.cell));
    return udp;
  }

  /** The UDP splice that holds a cell; those of all receivers of a fan-out. */
  udpAt(alloc: bigint, cell: number): bigint[] {
    const { cell: shape, receiver_key } = this.#shapes;
    const value = this.#object.get("ist_cells", this.#cellKey(alloc, cell));
    if (!value) return [];
    const udp = shape.big(value, "udp");
    if (MODES[shape.number(value, "mode")] !== "fanout") return udp === 0n ? [] : [udp];
    const key = receiver_key.blank();
    receiver_key.setBig(key, "alloc", alloc);
    receiver_key.setNumber(key, "cell", cell);
    return Array.from({ length: shape.number(value, "slots") }, (_, slot) => {
      receiver_key.setNumber(key, "slot", slot);
      return this.#object.get("ist_receivers", key)?.readBigUInt64LE();
    }).filter((id) => id !== undefined);
  }

  *cells(): Generator<{ alloc: bigint; cell: CellPorts }> {
    const { cell: shape, cell_key } = this.#shapes;
    for (const [key, value] of this.#object.entries("ist_cells", cell_key.bytes, shape.bytes)) {
      const ports = [shape.part(value, "port").readUInt16LE(0), shape.part(value, "port").readUInt16LE(2)] as const;
      const cell: CellPorts = { cell: cell_key.number(key, "cell"), ports, ...this.#kindOf(value, ports) };
      yield { alloc: cell_key.big(key, "alloc"), cell };
    }
  }

  #kindOf(value: Buffer, ports: readonly [number, number]): Pick<CellPorts, "pure" | "fanout"> {
    const { cell: shape } = this.#shapes;
    const mode = MODES[shape.number(value, "mode")];
    if (mode === "fanout") {
      const group = this.#groupOf(value);
      return { fanout: { receivers: shape.number(value, "receivers"), ...(group ? { group } : {}) } };
    }
    if (mode !== "pure") return {};
    const learns = ports[1] === 0 ? 0 : ports[0] === 0 ? 1 : undefined;
    return { pure: learns === undefined ? {} : { learns } };
  }

  /** The group waits at side 1, with the way to it, until there is a source. */
  #setGroup(value: Buffer, { host, port }: FanoutGroup, local: number, { ifindex, source, hardware }: Route): void {
    const { cell: shape } = this.#shapes;
    const address = ipBytes(host);
    shape.setNumber(value, `${GROUP}.half.waiting`, 1);
    shape.setPart(value, `${GROUP}.half.tuple.remote.word`, mapped(address));
    shape.setPart(value, `${GROUP}.half.tuple.local.word`, mapped(source));
    shape.part(value, `${GROUP}.half.tuple.remote_port`).writeUInt16BE(port);
    shape.part(value, `${GROUP}.half.tuple.local_port`).writeUInt16BE(local);
    shape.setNumber(value, `${GROUP}.half.tuple.proto`, IPPROTO_UDP);
    shape.setNumber(value, `${GROUP}.seen.ifindex`, ifindex);
    shape.setPart(value, `${GROUP}.seen.to`, groupHardware(address));
    shape.setPart(value, `${GROUP}.seen.from`, hardware);
  }

  #groupOf(value: Buffer): FanoutGroup | undefined {
    const { cell: shape } = this.#shapes;
    if (shape.number(value, `${GROUP}.half.waiting`) === 0) return undefined;
    return {
      host: ipText(shape.part(value, `${GROUP}.half.tuple.remote.word`)),
      port: shape.part(value, `${GROUP}.half.tuple.remote_port`).readUInt16BE(),
      ifindex: shape.number(value, `${GROUP}.seen.ifindex`),
    };
  }

  /** The unpaired legs of all cells. */
  *halves(): Generator<{ alloc: bigint; cell: number; proto: 0 | 1; side: Side; heard: number }> {
    const { cell: shape, cell_key } = this.#shapes;
    for (const [key, value] of this.#object.entries("ist_cells", cell_key.bytes, shape.bytes)) {
      for (const proto of [0, 1] as const) {
        for (const side of [0, 1] as const) {
          const at = `waiting.${proto}.${side}`;
          if (shape.number(value, `${at}.half.waiting`) === 0) continue;
          // That is the group of a fan-out, which waits for nobody.
          if (side === 1 && MODES[shape.number(value, "mode")] === "fanout") continue;
          yield {
            alloc: cell_key.big(key, "alloc"),
            cell: cell_key.number(key, "cell"),
            proto,
            side,
            heard: shape.number(value, `${at}.heard`) / NS_PER_MS,
          };
        }
      }
    }
  }

  /** @param before a leg that was heard later stays, on the clock of {@link now} */
  endHalf(at: { alloc: bigint; cell: number; proto: 0 | 1; side: Side }, before: number, reason: IstReason): Answer {
    return this.#command("end-half", { ...at, before, reason });
  }

  splice(id: bigint): StoredSplice | undefined {
    const value = this.#object.get("ist_splices", idKey(id));
    return value && new StoredSplice(this.#layout, id, value);
  }

  *splices(): Generator<StoredSplice> {
    for (const some of this.splicesByTurns()) yield* some;
  }

  /** All, some thousand at a time. */
  *splicesByTurns(): Generator<StoredSplice[]> {
    for (const some of this.#object.chunks("ist_splices")) yield this.#read(some);
  }

  /** Those of some that are there. */
  splicesOf(ids: readonly bigint[]): StoredSplice[] {
    return this.#read(this.#object.splices(idKeys(ids)));
  }

  #read(some: Buffer): StoredSplice[] {
    const stride = 8 + this.#layout.bytes;
    return Array.from({ length: some.length / stride }, (_, n) => {
      const at = n * stride;
      return new StoredSplice(this.#layout, some.readBigUInt64LE(at), some.subarray(at + 8, at + stride));
    });
  }

  /** Takes splices out, without an event of any. @returns those that were not over, for {@link reset} */
  endSplices(ids: readonly bigint[], reason: IstReason): Buffer {
    return this.#object.endSplices(idKeys(ids), REASONS.indexOf(reason));
  }

  /** Of each splice that {@link endSplices} returns. */
  get endedBytes(): number {
    return 8 + this.#layout.bytes;
  }

  /** Resets both ends of splices of TCP. @param ended as {@link endSplices} returns them */
  reset(ended: Buffer): void {
    this.#object.sendRsts(ended);
  }

  /** Resets both ends of a splice that the program itself has ended. */
  resetOne({ id, value }: StoredSplice): void {
    this.reset(Buffer.concat([idKey(id), value]));
  }

  /** Tells who sent a packet that it was dropped, and why. */
  tellSender({ refused, event }: PacketNews): void {
    const value = this.#object.get("ist_splices", idKey(refused));
    if (value) this.#object.sendError(value, event);
  }

  /** @returns whether it was sent */
  sendSynAck({ value }: StoredSplice, side: Side): boolean {
    return this.#object.sendSynAck(value, side);
  }

  /** Whether there is no splice, not even one that is over. */
  get isEmpty(): boolean {
    return this.splices().next().done === true;
  }

  stats(cells: number): IstStats {
    const { totals } = this.#shapes;
    const all = this.#object.get("ist_totals", ONLY)!;
    const count = this.#count();
    return {
      cells,
      halves: totals.number(all, "halves"),
      splices: totals.number(all, "live"),
      udpSplices: totals.number(all, "live_udp"),
      bytes: count("bytes"),
      reasonCount: REASONS.map((reason, index) => ({
        reason,
        ended: count("ended", index),
        packets: count("dropped", index),
      })),
    };
  }

  /** How many events had no room since the maps were made. */
  lostEvents(): number {
    return Number(this.#count()("lost"));
  }

  /** Sums up a counter of all CPUs. */
  #count(): (path: string, index?: number) => bigint {
    const { counters } = this.#shapes;
    const all = this.#object.get("ist_counters", ONLY)!;
    const stride = Math.ceil(counters.bytes / 8) * 8;
    const cpus = Array.from({ length: all.length / stride }, (_, n) => all.subarray(n * stride));
    return (path, index = 0) =>
      cpus.reduce((total, cpu) => total + counters.part(cpu, path).readBigUInt64LE(8 * index), 0n);
  }

  /** Reads some events. */
  *news(events: Buffer): Generator<SpliceNews | HalfNews | PacketNews> {
    const { event } = this.#shapes;
    for (let at = 0; at + event.bytes <= events.length; at += event.bytes) {
      const each = events.subarray(at, at + event.bytes);
      const kind = event.number(each, "kind");
      if (kind === EVENT_PACKET) {
        yield { refused: event.big(each, "splice"), event: each };
        continue;
      }
      const common = {
        alloc: event.big(each, "alloc"),
        cell: event.number(each, "cell"),
        proto: event.number(each, "proto"),
        reason: reasonOf(event.number(each, "reason")),
      };
      if (kind === EVENT_HALF) {
        const side: Side = event.number(each, "side") === 1 ? 1 : 0;
        const remote = event.part(each, "tuple.remote.word");
        yield {
          half: { ...common, side, remote, remotePort: event.part(each, "tuple.remote_port").readUInt16BE() },
        };
        continue;
      }
      yield {
        splice: {
          ...common,
          id: event.big(each, "splice"),
          mode: MODES[event.number(each, "mode")],
          state: STATES[event.number(each, "state")],
        },
        unanswered: event.number(each, "unanswered"),
        isDead: event.number(each, "dead") !== 0,
      };
    }
  }

  #command(
    kind: (typeof COMMANDS)[number],
    values: {
      alloc?: bigint;
      cell?: number;
      proto?: 0 | 1;
      side?: Side;
      before?: number;
      reason: IstReason;
    },
  ): Answer {
    const { command } = this.#shapes;
    const frame = command.blank();
    command.setNumber(frame, "kind", COMMANDS.indexOf(kind));
    command.setNumber(frame, "proto", values.proto ?? 0);
    command.setNumber(frame, "side", values.side ?? 0);
    command.setNumber(frame, "reason", REASONS.indexOf(values.reason));
    command.setNumber(frame, "cell", values.cell ?? 0);
    command.setBig(frame, "alloc", values.alloc ?? 0n);
    command.setNumber(frame, "before", Math.round((values.before ?? 0) * NS_PER_MS));
    const answer = ANSWERS[this.#object.run("ist_command", frame).returned];
    if (!answer) throw new IsthmusError("internal", "the BPF program does not know the command");
    return answer;
  }

  #cellKey(alloc: bigint, cell: number): Buffer {
    const { cell_key } = this.#shapes;
    const key = cell_key.blank();
    cell_key.setBig(key, "alloc", alloc);
    cell_key.setNumber(key, "cell", cell);
    return key;
  }

  #port(alloc: bigint, cell: number, side: Side): Buffer {
    const { port } = this.#shapes;
    const value = port.blank();
    port.setBig(value, "alloc", alloc);
    port.setNumber(value, "cell", cell);
    port.setNumber(value, "side", side);
    return value;
  }

  #sourceKey(alloc: bigint, side: Side, prefix: string): Buffer {
    const { source } = this.#shapes;
    const [text = "", length] = prefix.split("/");
    const address = ipBytes(text);
    const mappedBits = address.length === 4 ? MAPPED_BITS : 0;
    const bits = length === undefined ? ADDRESS_BITS : Number(length) + mappedBits;
    const key = source.blank();
    source.setNumber(key, "bits", SOURCE_HEAD_BITS + bits);
    source.setNumber(key, "side", side);
    source.setBig(key, "alloc", alloc);
    source.setPart(key, "addr.word", mapped(address));
    return key;
  }
}

const IPPROTO_UDP = 17;
/** In a fan-out's cell: UDP, side 1. */
const GROUP = "waiting.1.1";
/** Of `enum ist_bpf_event_kind`. */
const EVENT_HALF = 0;
const EVENT_PACKET = 2;
/** In the order of `enum ist_bpf_command_kind`. */
const COMMANDS = ["end-half", "end-cell"] as const;

function reasonOf(number: number): IstReason | undefined {
  return number === 0 ? undefined : REASONS[number];
}

function idKeys(ids: readonly bigint[]): Buffer {
  return Buffer.from(BigUint64Array.from(ids).buffer);
}

function idKey(id: bigint): Buffer {
  const key = Buffer.alloc(8);
  key.writeBigUInt64LE(id);
  return key;
}

/** @param remote the source port that legs must have, 0 any */
function portKey(local: number, remote: number): Buffer {
  const key = Buffer.alloc(4);
  key.writeUInt16BE(local, 0);
  key.writeUInt16BE(remote, 2);
  return key;
}

/** Pure legs come from the port at which the other side's arrive, as far as that is agreed on. */
function cellPortKey({ ports, pure }: CellPorts, side: Side): Buffer {
  return portKey(ports[side], pure ? ports[side === 0 ? 1 : 0] : 0);
}

/** Of a multicast group (RFC 1112, 6.4; RFC 2464, 7); anybody else is asked for it. */
function groupHardware(address: Uint8Array): Uint8Array {
  if (address.length === 16) return Uint8Array.of(0x33, 0x33, ...address.subarray(12));
  return Uint8Array.of(0x01, 0x00, 0x5e, address[1]! & 0x7f, address[2]!, address[3]!);
}

function mapped(address: Uint8Array): Buffer {
  return Buffer.from(address.length === 4 ? [...MAPPED, ...address] : address);
}
