import { existsSync } from "node:fs";
import { release } from "node:os";
import { fileURLToPath } from "node:url";
import { getSystemErrorMessage } from "node:util";
import { loadAddon } from "../load-addon.ts";
import type { BpfBinding, EventsHandle, ObjectHandle } from "./binding.ts";
import { Shape } from "./shape.ts";

const loaded = loadAddon<BpfBinding>("isthmus_bpf.node");
// The same from src/ and from dist/.
const PROGRAMS = fileURLToPath(new URL("../../build/splice.bpf.o", import.meta.url));

/** Why this process has no BPF programs, in one line; nothing where it has. */
export const bpfUnavailable: string | undefined =
  "reason" in loaded ? loaded.reason : existsSync(PROGRAMS) ? undefined : "the programs were not compiled";

/** An errno of a map or an interface, in words. */
export class BpfError extends Error {
  /** Positive. */
  readonly errno: number;

  constructor(what: string, errno: number) {
    super(`${what}: ${getSystemErrorMessage(-errno)}`);
    this.name = "BpfError";
    this.errno = errno;
  }
}

export const EEXIST = 17;
/** The code of an error of {@link SpliceObject}: the maps of the attached program have other shapes. */
export const OTHER_MAPS = "71";
const ENOENT = 2;
const ANY = 0;
const NO_EXIST = 1;
const CURSOR_BYTES = 256;

/** The splice in the traffic control hook: its programs and their maps (kernel/bpf). */
export class SpliceObject {
  readonly #binding: BpfBinding;
  readonly #object: ObjectHandle;
  #events: EventsHandle | undefined;

  /**
   * Loads the programs.
   * @param program id of an attached one whose maps are used on, or 0
   * @param splices how many there may be, unless maps are used on; 0: as many as the programs say
   * @throws Error that says why this host does not take them; with the code {@link OTHER_MAPS} when that is why
   */
  constructor(program: number, splices = 0) {
    if ("reason" in loaded) throw new Error(loaded.reason);
    if (bpfUnavailable !== undefined) throw new Error(bpfUnavailable);
    this.#binding = loaded.addon;
    this.#object = this.#binding.load(PROGRAMS, program, loopbackTranslates(release()), splices);
  }

  /** Of the program that {@link attach} attaches. */
  get programId(): number {
    return this.#binding.programId(this.#object);
  }

  shape(struct: string): Shape {
    return new Shape(this.#binding.shape(this.#object, struct));
  }

  get(map: string, key: Uint8Array): Buffer | undefined {
    return this.#binding.lookup(this.#object, map, key) ?? undefined;
  }

  /** @throws BpfError */
  set(map: string, key: Uint8Array, value: Uint8Array): void {
    check(`map ${map}`, this.#binding.update(this.#object, map, key, value, ANY));
  }

  /** @throws BpfError with {@link EEXIST} when the key is there */
  add(map: string, key: Uint8Array, value: Uint8Array): void {
    check(`map ${map}`, this.#binding.update(this.#object, map, key, value, NO_EXIST));
  }

  /** Nothing happens when the key is not there. @throws BpfError */
  delete(map: string, key: Uint8Array): void {
    const result = this.#binding.delete(this.#object, map, key);
    if (result !== -ENOENT) check(`map ${map}`, result);
  }

  /** @param keyBytes how long its keys are. @throws Error */
  *entries(map: string, keyBytes: number, valueBytes: number): Generator<[key: Buffer, value: Buffer]> {
    for (const some of this.chunks(map)) {
      for (let at = 0; at < some.length; at += keyBytes + valueBytes) {
        yield [some.subarray(at, at + keyBytes), some.subarray(at + keyBytes, at + keyBytes + valueBytes)];
      }
    }
  }

  /** The same, some thousand at a time: keys and values, one behind the other. @throws Error */
  *chunks(map: string): Generator<Buffer> {
    const cursor = Buffer.alloc(CURSOR_BYTES);
    for (let isFirst = true, more = true; more; isFirst = false) {
      const [some, hasMore] = this.#binding.entries(this.#object, map, cursor, isFirst);
      more = hasMore;
      yield some;
    }
  }

  /** Writes many entries. @throws BpfError */
  fill(map: string, keys: Uint8Array, values: Uint8Array): void {
    check(`map ${map}`, this.#binding.fill(this.#object, map, keys, values));
  }

  /** @param ids 8 bytes each, in the host's order. @returns id and value of each that is there, one behind the other */
  splices(ids: Uint8Array): Buffer {
    return this.#binding.splices(this.#object, ids);
  }

  /**
   * Ends splices without an event of any.
   * @param ids 8 bytes each, in the host's order
   * @returns id and value of each that was not over, as it was before, one behind the other
   * @throws Error
   */
  endSplices(ids: Uint8Array, reason: number): Buffer {
    return this.#binding.endSplices(this.#object, ids, reason);
  }

  /** @throws Error */
  run(program: string, frame: Uint8Array, ifindex = 1): { returned: number; frame: Buffer; nanoseconds: number } {
    const [returned, out, nanoseconds] = this.#binding.run(this.#object, program, frame, ifindex);
    return { returned, frame: out, nanoseconds };
  }

  /** @throws BpfError */
  attach(ifindex: number): void {
    check(`interface ${ifindex}`, this.#binding.attach(this.#object, ifindex));
  }

  /** Whether others filter an interface's incoming packets by tcx, in front of every filter of tc. */
  hasTcxFilters(ifindex: number): boolean {
    return this.#binding.tcxFilters(ifindex) > 0;
  }

  /** @param splice the map's value. @returns whether it was sent */
  sendSynAck(splice: Uint8Array, side: number): boolean {
    return this.#binding.sendSynAck(splice, side) === 0;
  }

  /** Resets both ends of each. @param splices as {@link endSplices} returns them; those of UDP are passed over */
  sendRsts(splices: Uint8Array): void {
    this.#binding.sendRsts(splices);
  }

  /** Tells who sent a packet why it was dropped. @param splice the map's value @param event that of the packet */
  sendError(splice: Uint8Array, event: Uint8Array): void {
    this.#binding.sendError(splice, event);
  }

  /** Keeps the process alive until {@link close}. @throws BpfError */
  watch(onEvents: (events: Buffer) => void): void {
    const events = this.#binding.watch(this.#object, onEvents);
    if (typeof events === "number") throw new BpfError("the ring of events", -events);
    this.#events = events;
  }

  /** Nothing is called any more; what is attached stays. */
  close(): void {
    if (this.#events) this.#binding.unwatch(this.#events);
    this.#events = undefined;
  }
}

function check(what: string, result: number): void {
  if (result < 0) throw new BpfError(what, -result);
}

/** Older kernels crash on such packets. @param version as uname tells it */
function loopbackTranslates(version: string): boolean {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  return major > 6 || (major === 6 && minor >= 16);
}
