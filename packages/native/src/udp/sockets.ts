/** Room for a burst: a split 64 KiB datagram is some 50 packets at once. */
export const SOCKET_BUFFER_BYTES = 1024 * 1024;

export interface UdpAddress {
  readonly host: string;
  readonly port: number;
}

/** A socket towards one address. */
export interface UdpConnection {
  /** What is sent before it is ready is dropped. The datagram must not be changed in this turn of the event loop. */
  send(datagram: Uint8Array): void;
  /** Nothing is called any more. */
  close(): void;
}

/** A socket for many. */
export interface UdpPort {
  readonly port: number;
  /** @param to a literal of the socket's family. The datagram must not be changed in this turn of the event loop */
  send(datagram: Uint8Array, to: UdpAddress): void;
  /** The port is free when this returns, and nothing is called any more. */
  close(): void;
}

/**
 * UDP sockets. What the network says of datagrams that were sent (ICMP) is not told: whoever needs to know whether they
 * arrive asks the other side.
 */
export interface UdpSockets {
  readonly name: string;
  /**
   * @param to a literal or a name
   * @param events `datagram` with memory of its own; `ready` never before this returns, and never where there is no way to
   * the address
   */
  connect(
    to: UdpAddress,
    events: { readonly datagram: (datagram: Buffer) => void; readonly ready: () => void },
  ): UdpConnection;
  /**
   * @param at port 0: any free one; host `::`: all addresses of both families
   * @param onDatagram with the source as Node writes it: IPv4 as `::ffff:192.0.2.1` where the socket is one of IPv6
   * @throws Error with the system's code: EADDRINUSE
   */
  bind(at: UdpAddress, onDatagram: (datagram: Buffer, from: UdpAddress) => void): Promise<UdpPort>;
}
