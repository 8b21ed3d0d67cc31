import { netlinkBinding } from "./available.ts";
import type { NetlinkBinding, SocketHandle } from "./binding.ts";
import {
  type NetlinkMessage,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
  readAck,
  readMessages,
  writeHeader,
} from "./message.ts";
import { type ExtendedAck, NetlinkError, type NetlinkFormatError } from "./netlink-error.ts";

/** Room for answers and events that wait for the loop. */
const RECEIVE_BUFFER_BYTES = 1024 * 1024;
/** Datagrams of dumps have up to 32 KiB; others are seldom above 4 KiB. */
const DATAGRAM_BYTES = 128 * 1024;
/** Requests that wait for their answers at once: those must fit the receive buffer, however long each is. */
const REQUESTS_AT_ONCE = 32;

/** Why messages of the kernel are missing: what was known from events has to be asked for again. */
export type LostReason =
  /** The receive buffer was full (ENOBUFS). */
  | "overrun"
  /** A datagram was longer than any should be. */
  | "too-long"
  /** Bytes that are no messages. */
  | "malformed";

export interface NetlinkSocketOptions {
  /** NETLINK_ROUTE, NETLINK_GENERIC and so on, a number of linux/netlink.h. */
  protocol: number;
  /** By default 1 MiB; beyond the system's limit (net.core.rmem_max) only with CAP_NET_ADMIN. */
  receiveBufferBytes?: number;
  /** A message that answers no request, above all of a multicast group. Its payload must be read at once or copied. */
  onMessage?: (message: NetlinkMessage) => void;
  /** Messages are missing; the socket goes on. Requests whose answer may be among them were rejected. */
  onLost?: (reason: LostReason) => void;
}

export interface NetlinkRequest {
  /** Of the message. */
  type: number;
  /** For errors: what is asked for. */
  name: string;
  /** Whole, with room for the header at its beginning. */
  message: Uint8Array;
  /** Each answer; what it throws rejects the request. The payload must be read at once or copied. */
  onReply?: (message: NetlinkMessage) => void;
  /** Names what the kernel did not like. */
  explain?: (extendedAck: ExtendedAck) => ExtendedAck;
}

interface Pending {
  readonly request: NetlinkRequest;
  readonly isDump: boolean;
  interrupted: boolean;
  failure: unknown;
  readonly resolve: (interrupted: boolean) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * A netlink socket of the network namespace in which the process is. Opening one needs no privilege; what requests need
 * the kernel decides. Events are best received by a socket that sends no requests, so that a flood of them costs no answers.
 */
export class NetlinkSocket {
  readonly #binding: NetlinkBinding;
  readonly #handle: SocketHandle;
  readonly #buffer = new Uint8Array(DATAGRAM_BYTES);
  readonly #options: NetlinkSocketOptions;
  readonly portId: number;
  readonly #pending = new Map<number, Pending>();
  /** In the order in which they came. */
  readonly #waiting = new Set<Pending>();
  readonly #waitingDumps = new Set<Pending>();
  #dumping = false;
  #sequence = 0;
  #closed = false;

  /** @throws NetlinkError `ENOSYS` without the add-on, or the system's error */
  constructor(options: NetlinkSocketOptions) {
    this.#options = options;
    this.#binding = netlinkBinding();
    const { protocol, receiveBufferBytes = RECEIVE_BUFFER_BYTES } = options;
    const handle = this.#binding.open(protocol, receiveBufferBytes, this.#buffer, (result) => this.#receive(result));
    if (typeof handle === "number") throw NetlinkError.fromErrno("a netlink socket", -handle);
    this.#handle = handle;
    this.portId = this.#binding.portId(handle);
  }

  /**
   * Resolves when the kernel has done it.
   * @throws NetlinkError what the kernel says; `ENOBUFS` when its answer was lost, `ECANCELED` after {@link close}
   */
  async request(request: NetlinkRequest): Promise<void> {
    await this.#ask(request, false);
  }

  /**
   * Asks for a list. Dumps of one socket run one after the other.
   * @returns whether it may be inconsistent, since something changed meanwhile
   * @throws NetlinkError as of {@link request}
   */
  async dump(request: NetlinkRequest): Promise<{ interrupted: boolean }> {
    return { interrupted: await this.#ask(request, true) };
  }

  /** @throws NetlinkError */
  join(group: number): void {
    const result = this.#closed ? 0 : this.#binding.join(this.#handle, group);
    if (result < 0) throw NetlinkError.fromErrno(`multicast group ${group}`, -result);
  }

  /** @throws NetlinkError */
  leave(group: number): void {
    const result = this.#closed ? 0 : this.#binding.leave(this.#handle, group);
    if (result < 0) throw NetlinkError.fromErrno(`multicast group ${group}`, -result);
  }

  /** The process may end though the socket is open. */
  unref(): void {
    this.#binding.setRef(this.#handle, false);
  }

  /** Rejects what waits for an answer (`ECANCELED`); nothing is called any more. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#binding.close(this.#handle);
    this.#rejectAll((name) => NetlinkError.of("ECANCELED", `${name}: the socket was closed`));
  }

  #ask(request: NetlinkRequest, isDump: boolean): Promise<boolean> {
    const { promise, resolve, reject } = Promise.withResolvers<boolean>();
    (isDump ? this.#waitingDumps : this.#waiting).add({
      request,
      isDump,
      interrupted: false,
      failure: undefined,
      resolve,
      reject,
    });
    if (this.#closed) this.#rejectAll((name) => NetlinkError.of("ECANCELED", `${name}: the socket is closed`));
    else this.#sendWaiting();
    return promise;
  }

  #sendWaiting(): void {
    while (!this.#closed && this.#pending.size < REQUESTS_AT_ONCE) {
      const queue = this.#waitingDumps.size > 0 && !this.#dumping ? this.#waitingDumps : this.#waiting;
      const [next] = queue;
      if (!next) return;
      queue.delete(next);
      this.#send(next);
    }
  }

  #send(pending: Pending): void {
    const { request, isDump } = pending;
    // Notifications have the number 0.
    this.#sequence = this.#sequence === 0xffff_ffff ? 1 : this.#sequence + 1;
    const flags = NLM_F_REQUEST | (isDump ? NLM_F_DUMP : NLM_F_ACK);
    writeHeader(request.message, request.type, flags, this.#sequence);
    const result = this.#binding.send(this.#handle, request.message);
    if (result < 0) {
      pending.reject(NetlinkError.fromErrno(request.name, -result));
      return;
    }
    this.#pending.set(this.#sequence, pending);
    if (isDump) this.#dumping = true;
  }

  #receive(result: number): void {
    if (result < 0) this.#receiveError(-result);
    else this.#receiveDatagram(this.#buffer.subarray(0, result));
    this.#sendWaiting();
  }

  #receiveError(errno: number): void {
    const error = NetlinkError.fromErrno("netlink", errno);
    if (error.code === "ENOBUFS") this.#lost("overrun");
    else if (error.code === "EMSGSIZE") this.#lost("too-long");
    else {
      this.close();
      throw error;
    }
  }

  #receiveDatagram(datagram: Uint8Array): void {
    try {
      for (const message of readMessages(datagram)) {
        if (this.#closed) return;
        this.#take(message);
      }
    } catch {
      this.#lost("malformed");
    }
  }

  #take(message: NetlinkMessage): void {
    if (message.portId !== this.portId || message.sequence === 0) {
      const { onMessage } = this.#options;
      if (onMessage) callUser(() => onMessage(message));
      return;
    }
    const pending = this.#pending.get(message.sequence);
    // It was rejected already, since its answer might have been lost.
    if (!pending) return;
    if (message.flags & NLM_F_DUMP_INTR && pending.isDump) pending.interrupted = true;
    if (message.type === NLMSG_ERROR || message.type === NLMSG_DONE) {
      this.#pending.delete(message.sequence);
      this.#settle(pending, message);
      return;
    }
    // The kernel goes on with its answers: they are taken to their end whatever became of one.
    try {
      pending.request.onReply?.(message);
    } catch (error) {
      pending.failure ??= error;
    }
  }

  #settle(pending: Pending, message: NetlinkMessage): void {
    const { request, failure, interrupted, isDump, resolve, reject } = pending;
    if (isDump) this.#dumping = false;
    let ack: ReturnType<typeof readAck>;
    try {
      ack = readAck(message);
    } catch (error) {
      reject(error as NetlinkFormatError);
      return;
    }
    const { errno, extendedAck } = ack;
    if (errno !== 0) {
      reject(NetlinkError.fromErrno(request.name, errno, request.explain?.(extendedAck) ?? extendedAck));
    } else if (failure !== undefined) reject(failure);
    else resolve(interrupted);
  }

  /** Any answer may be among what was lost; only that of a dump waits until there is room for it. */
  #lost(reason: LostReason): void {
    for (const [sequence, { request, isDump, reject }] of this.#pending) {
      if (isDump && reason === "overrun") continue;
      this.#pending.delete(sequence);
      if (isDump) this.#dumping = false;
      reject(NetlinkError.of("ENOBUFS", `${request.name}: the answer was lost (${reason})`));
    }
    const { onLost } = this.#options;
    if (onLost) callUser(() => onLost(reason));
  }

  #rejectAll(error: (name: string) => NetlinkError): void {
    const all = [...this.#pending.values(), ...this.#waiting, ...this.#waitingDumps];
    for (const queue of [this.#pending, this.#waiting, this.#waitingDumps]) queue.clear();
    for (const { request, reject } of all) reject(error(request.name));
  }
}

/** What a listener throws ends the process as usual, and does not keep others from what they wait for. */
function callUser(listener: () => void): void {
  try {
    listener();
  } catch (error) {
    process.nextTick(() => {
      throw error;
    });
  }
}
