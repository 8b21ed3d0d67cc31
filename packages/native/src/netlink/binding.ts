/** A socket of the add-on. */
export type SocketHandle = object & { readonly socket: unique symbol };

/** What the add-on (c/netlink) does. Numbers that may be negative are an errno then: -ENOENT. */
export interface NetlinkBinding {
  /**
   * A socket of the network namespace that the calling thread is in, bound and watched. It keeps the process alive.
   * @param receiveBufferBytes beyond the system's limit only with CAP_NET_ADMIN
   * @param buffer where each datagram is put; one that does not fit is lost
   * @param onReceive called with the size of the datagram in the buffer, or with a negative errno: -ENOBUFS after a
   *   receive overrun and -EMSGSIZE for a datagram that did not fit, after which it goes on, or another, after which
   *   nothing comes any more
   */
  open(
    protocol: number,
    receiveBufferBytes: number,
    buffer: Uint8Array,
    onReceive: (result: number) => void,
  ): SocketHandle | number;
  /** To the kernel, which works on a request before this returns. @returns 0 or a negative errno */
  send(socket: SocketHandle, message: Uint8Array): number;
  /** Takes part in a multicast group. @returns 0 or a negative errno */
  join(socket: SocketHandle, group: number): number;
  leave(socket: SocketHandle, group: number): number;
  /** The address that the kernel gave it. */
  portId(socket: SocketHandle): number;
  /** Whether it keeps the process alive. */
  setRef(socket: SocketHandle, keepsAlive: boolean): void;
  /** `onReceive` is not called any more; closing twice does nothing. */
  close(socket: SocketHandle): void;
}
