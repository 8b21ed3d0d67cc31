/** Programs that are loaded, with their maps. */
export type ObjectHandle = object & { readonly object: unique symbol };
/** A ring of events that is listened to. */
export type EventsHandle = object & { readonly events: unique symbol };

/** What the add-on (c/bpf) does. Numbers that may be negative are an errno then: -EEXIST. */
export interface BpfBinding {
  /**
   * @param program id of an attached one whose maps are used on, or 0
   * @param translates whether packets of the loopback device may change their IP version
   * @throws Error what libbpf says, of the verifier the first line; its code is the errno, in decimal
   */
  load(path: string, program: number, translates: boolean): ObjectHandle;
  /** Offset and size of each member of a struct by its path; of the whole by "". */
  shape(object: ObjectHandle, struct: string): Readonly<Record<string, readonly [number, number]>>;
  /** The value, or those of all CPUs one behind the other, each as long as a multiple of 8. */
  lookup(object: ObjectHandle, map: string, key: Uint8Array): Buffer | null;
  update(object: ObjectHandle, map: string, key: Uint8Array, value: Uint8Array, flags: number): number;
  delete(object: ObjectHandle, map: string, key: Uint8Array): number;
  /** Keys and values of a hash or trie, one behind the other. @throws Error */
  entries(object: ObjectHandle, map: string): Buffer;
  /**
   * Runs a program on a frame, as if it came by the interface.
   * @returns what it returned, and the frame
   * @throws Error
   */
  run(object: ObjectHandle, program: string, frame: Uint8Array, ifindex: number): [number, Buffer];
  /** In place of one that was attached before; filters of others are left alone. */
  attach(object: ObjectHandle, ifindex: number): number;
  /** Whether (1) an interface has filters of the newer kind; negative where the kernel has none of it. */
  tcxFilters(ifindex: number): number;
  /** The id of the program that is attached. */
  programId(object: ObjectHandle): number;
  /** @param splice the map's value. @returns 0 or what sending it came to */
  sendSynAck(splice: Uint8Array, side: number): number;
  sendRst(splice: Uint8Array, side: number): number;
  /** Keeps the process alive. @param onEvents some events, one behind the other */
  watch(object: ObjectHandle, onEvents: (events: Buffer) => void): EventsHandle | number;
  unwatch(events: EventsHandle): void;
}
