/** Programs that are loaded, with their maps. */
export type ObjectHandle = object & { readonly object: unique symbol };
/** A ring of events that is listened to. */
export type EventsHandle = object & { readonly events: unique symbol };

/** What the add-on (c/bpf) does. Numbers that may be negative are an errno then: -EEXIST. */
export interface BpfBinding {
  /**
   * @param program id of an attached one whose maps are used on, or 0
   * @param translates whether packets of the loopback device may change their IP version
   * @param splices how many there may be, unless maps are used on; 0: as many as the programs say
   * @throws Error what libbpf says, of the verifier the first line; its code is the errno, in decimal
   */
  load(path: string, program: number, translates: boolean, splices: number): ObjectHandle;
  /** Offset and size of each member of a struct by its path; of the whole by "". */
  shape(object: ObjectHandle, struct: string): Readonly<Record<string, readonly [number, number]>>;
  /** The value, or those of all CPUs one behind the other, each as long as a multiple of 8. */
  lookup(object: ObjectHandle, map: string, key: Uint8Array): Buffer | null;
  update(object: ObjectHandle, map: string, key: Uint8Array, value: Uint8Array, flags: number): number;
  delete(object: ObjectHandle, map: string, key: Uint8Array): number;
  /**
   * Some thousand entries of a hash or trie: keys and values, one behind the other.
   * @param cursor 256 bytes, which say where to go on; it is moved
   * @param first from the beginning, whatever the cursor says
   * @returns the entries, and whether there may be more
   * @throws Error
   */
  entries(object: ObjectHandle, map: string, cursor: Uint8Array, first: boolean): [Buffer, boolean];
  /** Writes many entries of a hash. */
  fill(object: ObjectHandle, map: string, keys: Uint8Array, values: Uint8Array): number;
  /** @param ids 8 bytes each, in the host's order. @returns id and value of each that is there, one behind the other */
  splices(object: ObjectHandle, ids: Uint8Array): Buffer;
  /**
   * Ends splices without an event of any.
   * @param ids 8 bytes each, in the host's order
   * @param reason number of an `IstReason`
   * @returns id and value of each that was not over, as it was before
   * @throws Error
   */
  endSplices(object: ObjectHandle, ids: Uint8Array, reason: number): Buffer;
  /**
   * Runs a program on a frame, as if it came by the interface.
   * @returns what it returned, the frame, and how many nanoseconds it took
   * @throws Error
   */
  run(object: ObjectHandle, program: string, frame: Uint8Array, ifindex: number): [number, Buffer, number];
  /** In place of one that was attached before; filters of others are left alone. */
  attach(object: ObjectHandle, ifindex: number): number;
  /** Whether (1) an interface has filters of the newer kind; negative where the kernel has none of it. */
  tcxFilters(ifindex: number): number;
  /** The id of the program that is attached. */
  programId(object: ObjectHandle): number;
  /** @param splice the map's value. @returns 0 or what sending it came to */
  sendSynAck(splice: Uint8Array, side: number): number;
  /** Tells both ends of each. @param splices as {@link endSplices} returns them; those of UDP are passed over */
  sendRsts(splices: Uint8Array): void;
  /** Tells who sent a packet by ICMP. @param event that of the packet. @returns 0 or what sending it came to */
  sendError(splice: Uint8Array, event: Uint8Array): number;
  /** Keeps the process alive. @param onEvents some events, one behind the other */
  watch(object: ObjectHandle, onEvents: (events: Buffer) => void): EventsHandle | number;
  unwatch(events: EventsHandle): void;
}
