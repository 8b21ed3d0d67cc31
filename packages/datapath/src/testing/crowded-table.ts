import type { Shape, SpliceObject } from "@isthmus/native/bpf";
import { NS_PER_MS, now } from "../ebpf/clock.ts";
import { attachedObject } from "./attached-object.ts";

/** Entries that are written at once. */
const AT_ONCE = 4096;
const ONLY = new Uint8Array(4);
const SIDES = [0, 1] as const;
/** Addresses of the copies begin with this byte, and with those behind it. */
const FIRST_BYTE = 10;
/** How long ways of copies are good: nothing that passes by one has to look for it. */
const WAY_MS = 3_600_000;
const IPPROTO_TCP = 6;
const ACK = 0x10;

/**
 * Makes the table of the BPF data path as full as it would be with very many connections: splices between addresses that
 * nobody has are copies of one that two ends made, in all that the programs wrote of it, and are counted as theirs are.
 * Only for tables whose programs are attached, while nobody ends a splice.
 */
export class CrowdedTable {
  readonly #object: SpliceObject;
  readonly #splice: Shape;
  readonly #tuple: Shape;
  readonly #flow: Shape;
  readonly #model: { id: bigint; value: Buffer };
  #copies = 0;

  private constructor(object: SpliceObject) {
    this.#object = object;
    this.#splice = object.shape("ist_bpf_splice");
    this.#tuple = object.shape("ist_tuple");
    this.#flow = object.shape("ist_bpf_flow");
    const found = object.entries("ist_splices", 8, this.#splice.bytes).next();
    if (found.done) throw new Error("there is no splice that could be copied");
    const [key, value] = found.value;
    this.#model = { id: key.readBigUInt64LE(), value: Buffer.from(value) };
  }

  /** The table of the programs that are attached to the loopback device; it has a splice over IPv4. @throws Error */
  static async find(): Promise<CrowdedTable> {
    return new CrowdedTable(await attachedObject());
  }

  /** Makes copies, up to half a million in all. @param idleMs for how long nothing came on them. @throws BpfError */
  grow(count: number, idleMs = 0): void {
    const totals = this.#object.get("ist_totals", ONLY)!;
    const shape = this.#object.shape("ist_bpf_totals");
    const first = shape.big(totals, "last_splice") + 1n;
    for (let done = 0; done < count; done += AT_ONCE) {
      this.#write(this.#copies + done, Math.min(AT_ONCE, count - done), first + BigInt(done), idleMs);
    }
    this.#copies += count;
    shape.setBig(totals, "last_splice", first + BigInt(count) - 1n);
    shape.setNumber(totals, "live", shape.number(totals, "live") + count);
    this.#object.set("ist_totals", ONLY, totals);
    const alloc = this.#splice.part(this.#model.value, "alloc");
    const usage = this.#object.get("ist_usage", alloc)!;
    const usageShape = this.#object.shape("ist_bpf_usage");
    usageShape.setNumber(usage, "live", usageShape.number(usage, "live") + count);
    this.#object.set("ist_usage", alloc, usage);
  }

  /** Of the table in which every packet is looked for: two for each splice. */
  get entries(): number {
    const bytes = this.#tuple.bytes + this.#flow.bytes;
    let count = 0;
    for (const some of this.#object.chunks("ist_flows")) count += some.length / bytes;
    return count;
  }

  /** Passes a segment of a copy's side 0 through the program. @returns nanoseconds @throws Error when it does not pass */
  pass(copy: number): number {
    const { returned, nanoseconds } = this.#object.run("ist_splice", this.#frame(copy));
    const TC_ACT_REDIRECT = 7;
    if (returned !== TC_ACT_REDIRECT) throw new Error(`the program returned ${returned}`);
    return nanoseconds;
  }

  #write(copy: number, count: number, firstId: bigint, idleMs: number): void {
    const { bytes } = this.#splice;
    const ids = Buffer.alloc(8 * count);
    const splices = Buffer.alloc(bytes * count);
    const tuples = Buffer.alloc(this.#tuple.bytes * count * SIDES.length);
    const flows = Buffer.alloc(this.#flow.bytes * count * SIDES.length);
    const at = BigInt(Math.round((now() - idleMs) * NS_PER_MS));
    for (let n = 0; n < count; n++) {
      const id = firstId + BigInt(n);
      ids.writeBigUInt64LE(id, 8 * n);
      const value = splices.subarray(n * bytes, (n + 1) * bytes);
      this.#model.value.copy(value);
      this.#splice.setBig(value, "created", at);
      for (const side of SIDES) {
        const address = this.#splice.part(value, `leg.${side}.tuple.remote.word`);
        address.set(addressBytes(copy + n), address.length - 4);
        this.#splice.setBig(value, `leg.${side}.heard`, at);
        this.#splice.setBig(value, `leg.${side}.way_until`, at + BigInt((idleMs + WAY_MS) * NS_PER_MS));
        const index = n * SIDES.length + side;
        const [offset] = this.#splice.span(`leg.${side}.tuple.remote.word`);
        value.copy(tuples, index * this.#tuple.bytes, offset, offset + this.#tuple.bytes);
        const flow = flows.subarray(index * this.#flow.bytes, (index + 1) * this.#flow.bytes);
        this.#flow.setBig(flow, "splice", id);
        this.#flow.setNumber(flow, "side", side);
      }
    }
    this.#object.fill("ist_splices", ids, splices);
    this.#object.fill("ist_flows", tuples, flows);
  }

  /** An acknowledgment as Ethernet has it. */
  #frame(copy: number): Buffer {
    const { value } = this.#model;
    const frame = Buffer.alloc(14 + 20 + 20);
    frame.writeUInt16BE(0x0800, 12);
    frame.set([0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, IPPROTO_TCP], 14);
    const remote = this.#splice.part(value, "leg.0.tuple.remote.word").subarray(12);
    frame.set([...addressBytes(copy), remote[3]!], 26);
    frame.set(this.#splice.part(value, "leg.0.tuple.local.word").subarray(12), 30);
    frame.set(this.#splice.part(value, "leg.0.tuple.remote_port"), 34);
    frame.set(this.#splice.part(value, "leg.0.tuple.local_port"), 36);
    frame.writeUInt8(0x50, 46);
    frame.writeUInt8(ACK, 47);
    return frame;
  }
}

/** All but the last byte, in which the sides differ: so both change alike, and what the checksums differ by is the model's. */
function addressBytes(copy: number): number[] {
  return [FIRST_BYTE + (copy >> 16), (copy >> 8) & 255, copy & 255];
}
