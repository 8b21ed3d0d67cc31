/** A socket of the add-on. */
export type UdpHandle = object & { readonly udpSocket: unique symbol };

/** The C half (c/udp.c). */
export interface UdpEngine {
  /** Where each datagram ends in the bytes that are being told. */
  readonly ends: Uint32Array;
  /** The bytes that are being told, where they are few. */
  readonly few: Uint8Array;
  /**
   * Opens a socket, which keeps the process alive.
   * @param host a literal, with the interface where it needs one
   * @param isConnected to the address; otherwise bound to it
   * @param bufferBytes room for datagrams each way, as far as the system allows
   * @param onDatagrams with the bytes of `count` datagrams, one behind the other in memory of their own; where they are
   * few, they are in `few` until it returns. `sources` is host,
   * port and number of datagrams of each source in turn; nothing where it is connected
   * @throws Error with the system's code
   */
  open(
    host: string,
    port: number,
    isConnected: boolean,
    bufferBytes: number,
    onDatagrams: (bytes: Buffer | undefined, count: number, sources: readonly (string | number)[] | undefined) => void,
  ): UdpHandle;
  /** Where it is bound. */
  port(handle: UdpHandle): number;
  /**
   * Datagrams that the socket has no room for wait, up to a limit; what the system refuses is dropped.
   * @param host and `port`: of no meaning where it is connected
   */
  send(handle: UdpHandle, datagrams: readonly Uint8Array[], host: string | undefined, port: number | undefined): void;
  /** Nothing is called any more; closing twice does nothing. */
  close(handle: UdpHandle): void;
}
