import { AttributeWriter } from "./attributes.ts";
import { AttributeCodec } from "./codec.ts";
import type { FamilySpec, OperationAttributes, OperationName } from "./family-spec.ts";
import { HEADER_BYTES, type NetlinkMessage } from "./message.ts";
import { type ExtendedAck, NetlinkError, NetlinkFormatError } from "./netlink-error.ts";
import { type LostReason, type NetlinkRequest, NetlinkSocket } from "./netlink-socket.ts";
import { NLCTRL, NLCTRL_ID } from "./nlctrl.ts";

export const NETLINK_GENERIC = 16;
/** struct genlmsghdr: command, version, two reserved bytes. */
const GENERIC_BYTES = 4;
const START = HEADER_BYTES + GENERIC_BYTES;
/** A burst of events waits here while the loop is busy. */
const EVENT_BUFFER_BYTES = 4 * 1024 * 1024;

/** A notification of a family. */
export type GenericEvent<F extends FamilySpec> = {
  [O in OperationName<F>]: { readonly operation: O; readonly attributes: OperationAttributes<F, O> };
}[OperationName<F>];

export interface EventListener<F extends FamilySpec> {
  onEvent: (event: GenericEvent<F>) => void;
  /** Events were lost: what is known from them must be asked for again. */
  onResynchronise: (reason: LostReason) => void;
}

export interface FamilyOptions<F extends FamilySpec = FamilySpec> {
  /** Receive buffer of events, in bytes; by default 4 MiB. */
  eventBufferBytes?: number;
  /** For events that the kernel sends to the socket of requests alone: to one that has registered there, say. */
  listener?: EventListener<F>;
}

/** A generic-netlink family of the running kernel, in the network namespace of the process. */
export class GenericFamily<F extends FamilySpec> {
  /** The number that the kernel gave the family; it may be another one when the family's module is loaded again. */
  readonly id: number;
  readonly #spec: F;
  readonly #codec: AttributeCodec;
  readonly #requests: NetlinkSocket;
  readonly #operations: Map<number, OperationName<F>>;
  readonly #groups: ReadonlyMap<string, number>;
  readonly #options: FamilyOptions<F>;
  readonly #subscriptions = new Set<NetlinkSocket>();
  #closed = false;

  /**
   * Asks the kernel for the family.
   * @throws NetlinkError `ENOENT` when the kernel has no such family, `EPROTO` when its version is another one, `ENOSYS`
   *   without the add-on
   */
  static async open<F extends FamilySpec>(spec: F, options: FamilyOptions<F> = {}): Promise<GenericFamily<F>> {
    const { listener, eventBufferBytes = EVENT_BUFFER_BYTES } = options;
    let family: GenericFamily<F> | undefined;
    const socket = new NetlinkSocket({
      protocol: NETLINK_GENERIC,
      ...(listener && {
        receiveBufferBytes: eventBufferBytes,
        onMessage: (message) => {
          if (family) family.#event(message, listener);
        },
        onLost: (reason) => listener.onResynchronise(reason),
      }),
    });
    try {
      const control = new GenericFamily(NLCTRL, NLCTRL_ID, new Map(), socket, {});
      const { familyId, version, mcastGroups = [] } = await control.get("getfamily", { familyName: spec.name });
      if (version !== spec.version) {
        throw NetlinkError.of("EPROTO", `family ${spec.name} has version ${version}, ${spec.version} is expected`);
      }
      const groups = new Map(mcastGroups.map(({ name = "", id = 0 }) => [name, id]));
      family = new GenericFamily(spec, familyId!, groups, socket, options);
      return family;
    } catch (error) {
      socket.close();
      throw error;
    }
  }

  private constructor(
    spec: F,
    id: number,
    groups: ReadonlyMap<string, number>,
    requests: NetlinkSocket,
    options: FamilyOptions<F>,
  ) {
    this.id = id;
    this.#spec = spec;
    this.#codec = new AttributeCodec(spec);
    this.#requests = requests;
    this.#groups = groups;
    this.#options = options;
    const operations = Object.entries(spec.operations);
    this.#operations = new Map(operations.map(([name, { command }]) => [command, name as OperationName<F>]));
  }

  /**
   * Asks for something to be done. @returns the answers, for most requests none
   * @throws NetlinkError what the kernel says, with its words and the attribute's name
   * @throws NetlinkFormatError attributes that break the specification; nothing was sent
   */
  async request<O extends OperationName<F>>(
    operation: O,
    attributes: OperationAttributes<F, O>,
  ): Promise<OperationAttributes<F, O>[]> {
    const replies: OperationAttributes<F, O>[] = [];
    await this.#requests.request(this.#make(operation, attributes, replies));
    return replies;
  }

  /** Asks for one thing. @throws as of {@link request}, and NetlinkFormatError when nothing was answered */
  async get<O extends OperationName<F>>(
    operation: O,
    attributes: OperationAttributes<F, O>,
  ): Promise<OperationAttributes<F, O>> {
    const [reply] = await this.request(operation, attributes);
    if (!reply) throw new NetlinkFormatError(`${this.#spec.name} ${operation}: there is no answer`);
    return reply;
  }

  /**
   * Asks for a list.
   * @returns `interrupted`: something changed meanwhile, so that entries may be missing or there twice
   * @throws as of {@link request}
   */
  async dump<O extends OperationName<F>>(
    operation: O,
    attributes: OperationAttributes<F, O>,
  ): Promise<{ entries: OperationAttributes<F, O>[]; interrupted: boolean }> {
    const entries: OperationAttributes<F, O>[] = [];
    const { interrupted } = await this.#requests.dump(this.#make(operation, attributes, entries));
    return { entries, interrupted };
  }

  /**
   * Listens to multicast groups, on a socket of their own. @returns what ends it
   * @throws NetlinkError `ENOENT` for a group that the kernel does not have, `EPERM`
   */
  subscribe(groups: readonly F["groups"][number][], listener: EventListener<F>): () => void {
    if (this.#closed) throw NetlinkError.of("ECANCELED", `family ${this.#spec.name} is closed`);
    const ids = groups.map((group) => {
      const id = this.#groups.get(group);
      if (id === undefined) throw NetlinkError.of("ENOENT", `family ${this.#spec.name} has no group ${group}`);
      return id;
    });
    const socket = new NetlinkSocket({
      protocol: NETLINK_GENERIC,
      receiveBufferBytes: this.#options.eventBufferBytes ?? EVENT_BUFFER_BYTES,
      onMessage: (message) => this.#event(message, listener),
      onLost: listener.onResynchronise,
    });
    this.#subscriptions.add(socket);
    const stop = () => {
      this.#subscriptions.delete(socket);
      socket.close();
    };
    try {
      for (const id of ids) socket.join(id);
    } catch (error) {
      stop();
      throw error;
    }
    return stop;
  }

  /** The process may end though the family is open. */
  unref(): void {
    this.#requests.unref();
    for (const socket of this.#subscriptions) socket.unref();
  }

  /** Ends subscriptions, and requests without an answer (`ECANCELED`). */
  close(): void {
    this.#closed = true;
    this.#requests.close();
    for (const socket of this.#subscriptions) socket.close();
    this.#subscriptions.clear();
  }

  #make<O extends OperationName<F>>(
    operation: O,
    attributes: OperationAttributes<F, O>,
    replies: OperationAttributes<F, O>[],
  ): NetlinkRequest {
    const { command, attributes: set } = this.#spec.operations[operation]!;
    const writer = new AttributeWriter(START);
    this.#codec.write(set, attributes, writer);
    const message = writer.bytes;
    message[HEADER_BYTES] = command;
    message[HEADER_BYTES + 1] = this.#spec.version;
    return {
      type: this.id,
      name: `${this.#spec.name} ${operation}`,
      message,
      onReply: (reply) => {
        if (reply.payload.length < GENERIC_BYTES) throw new NetlinkFormatError("a generic header is cut");
        replies.push(this.#codec.read(set, reply.payload.subarray(GENERIC_BYTES)) as OperationAttributes<F, O>);
      },
      explain: (extendedAck) => this.#explain(set, message, extendedAck),
    };
  }

  #explain(set: string, message: Uint8Array, extendedAck: ExtendedAck): ExtendedAck {
    const { offset, missingType, missingNest } = extendedAck;
    const bytes = message.subarray(START);
    const attribute = offset === undefined ? undefined : this.#codec.nameAt(set, bytes, offset - START);
    const nest = missingNest === undefined ? undefined : missingNest - START;
    const missing = missingType === undefined ? undefined : this.#codec.nameOf(set, bytes, missingType, nest);
    return {
      ...extendedAck,
      ...(attribute === undefined ? {} : { attribute }),
      ...(missing === undefined ? {} : { missing }),
    };
  }

  #event({ type, payload }: NetlinkMessage, { onEvent, onResynchronise }: EventListener<F>): void {
    if (type !== this.id) return;
    const operation = payload.length < GENERIC_BYTES ? undefined : this.#operations.get(payload[0]!);
    // A newer kernel may tell more than is known here.
    if (operation === undefined) return;
    const { attributes: set } = this.#spec.operations[operation]!;
    let attributes: object;
    try {
      attributes = this.#codec.read(set, payload.subarray(GENERIC_BYTES));
    } catch {
      onResynchronise("malformed");
      return;
    }
    onEvent({ operation, attributes } as GenericEvent<F>);
  }
}
