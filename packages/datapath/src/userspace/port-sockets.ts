import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { once } from "node:events";
import { createServer, isIP, type Server } from "node:net";
import type { DatagramRelay, DatagramSocket } from "@isthmus/native/datagrams";
import { LEG_SOCKETS } from "../splice/waiting-leg.ts";

/** Room for a burst while the loop is busy: a split 64 KiB datagram is some 50 packets at once. */
const UDP_BUFFER_BYTES = 1024 * 1024;

/** One port, taken for TCP and UDP on every bind address. */
export interface PortSockets {
  port: number;
  servers: Server[];
  /** Those of UDP that Node reads, */
  sockets: UdpSocket[];
  /** or those that are for the relay. */
  bound: DatagramSocket[];
}

/**
 * Takes a port on all addresses, or on none.
 * @param datagrams who is to read the UDP sockets; by default Node
 * @throws the system's error, `EADDRINUSE` above all
 */
export async function openPort(
  addresses: readonly string[],
  port: number,
  datagrams?: DatagramRelay,
): Promise<PortSockets> {
  // One dual-stack socket serves both families, unless IPv4 has sockets of its own.
  const ipv6Only = addresses.some((address) => isIP(address) === 4);
  const opened: PortSockets = { port, servers: [], sockets: [], bound: [] };
  try {
    for (const address of addresses) {
      opened.servers.push(await listen(address, port, ipv6Only));
      if (datagrams) opened.bound.push(datagrams.bind(address, port, ipv6Only, UDP_BUFFER_BYTES));
      else opened.sockets.push(await bind(address, port, ipv6Only));
    }
    return opened;
  } catch (error) {
    closePort(opened);
    throw error;
  }
}

/** The port is free when this returns, but for what a cell's relay has of it; connections that were accepted on it go on. */
export function closePort({ servers, sockets, bound }: PortSockets): void {
  for (const server of servers) server.close();
  for (const socket of [...sockets, ...bound]) socket.close();
}

async function listen(host: string, port: number, ipv6Only: boolean): Promise<Server> {
  const server = createServer(LEG_SOCKETS);
  server.listen({ host, port, ipv6Only, exclusive: true });
  await once(server, "listening");
  return server;
}

async function bind(address: string, port: number, ipv6Only: boolean): Promise<UdpSocket> {
  const family = isIP(address);
  const socket = createSocket({
    type: family === 6 ? "udp6" : "udp4",
    ipv6Only: family === 6 && ipv6Only,
    recvBufferSize: UDP_BUFFER_BYTES,
    sendBufferSize: UDP_BUFFER_BYTES,
    // Every address is a literal: the resolver is not needed, nor its turn of the loop per datagram.
    lookup: (host, _options, callback) => callback(null, host, family),
  });
  try {
    // Without a resolver it may listen before `bind` returns.
    const listening = once(socket, "listening");
    socket.bind({ address, port, exclusive: true });
    await listening;
    return socket;
  } catch (error) {
    socket.close();
    throw error;
  }
}
