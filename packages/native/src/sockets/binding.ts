/** A door of the add-on. */
export type DoorHandle = object & { readonly door: unique symbol };

/** A socket of IPv4 or IPv6 that a process has shown. */
export interface ShownSocket {
  readonly family: 4 | 6;
  /** SOCK_STREAM is 1, SOCK_DGRAM is 2. */
  readonly type: number;
  /** IPPROTO_*: TCP is 6, UDP is 17, MPTCP is 262. */
  readonly protocol: number;
  /** Where it is bound, in the notation of its family. */
  readonly address: string;
  /** 0 when it is not bound. */
  readonly port: number;
  /** 1 when it takes no IPv4. */
  readonly v6only: number;
  /** Index of the interface that it is bound to, or 0. */
  readonly device: number;
  /** SO_COOKIE: names it as long as this host runs, in decimal. */
  readonly cookie: string;
  /** SO_NETNS_COOKIE: names the network that it is in. */
  readonly network: string;
}

/** What the add-on (c/sockets) does. Numbers that may be negative are an errno then: -EADDRINUSE. */
export interface SocketsBinding {
  /**
   * Listens at a Unix socket (SOCK_SEQPACKET). It keeps the process alive.
   * @param mode of the file
   * @param onConnect with the peer's user and process, as the kernel knows them
   * @param onMessage with null in place of what is no socket of IPv4 or IPv6. The sockets stay open until it returns
   * @param onClose the peer has gone, or sent what is too long
   */
  open(
    path: string,
    mode: number,
    onConnect: (id: number, uid: number, pid: number) => void,
    onMessage: (id: number, bytes: Uint8Array, sockets: (ShownSocket | null)[]) => void,
    onClose: (id: number) => void,
  ): DoorHandle | number;
  /** @returns 0 or a negative errno: -EAGAIN to a peer that does not read */
  answer(door: DoorHandle, id: number, bytes: Uint8Array): number;
  /** Ends a connection; `onClose` is not called. One that is gone already is no error. */
  drop(door: DoorHandle, id: number): void;
  /** Nothing is called any more; closing twice does nothing. The file stays. */
  close(door: DoorHandle): void;
  /** The network that this thread is in. */
  ownNetwork(): string;
}
