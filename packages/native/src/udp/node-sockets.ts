import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { isIP } from "node:net";
import { SOCKET_BUFFER_BYTES, type UdpAddress, type UdpConnection, type UdpPort, type UdpSockets } from "./sockets.ts";

/** Node's own, one call for each datagram. */
export const nodeUdpSockets: UdpSockets = {
  name: "node:dgram",

  connect(to, events): UdpConnection {
    const socket = socketFor(to);
    let isReady = false;
    let isClosed = false;
    socket.on("message", (message) => events.datagram(message));
    socket.connect(to.port, to.host, (error?: Error) => {
      if (error || isClosed) return;
      isReady = true;
      makeRoom(socket);
      events.ready();
    });
    return {
      send: (datagram) => {
        if (isReady && !isClosed) socket.send(datagram);
      },
      close: () => {
        if (isClosed) return;
        isClosed = true;
        socket.close();
      },
    };
  },

  async bind(at, onDatagram): Promise<UdpPort> {
    const socket = socketFor(at);
    const listening = once(socket, "listening");
    socket.bind(at.port, at.host);
    try {
      await listening;
    } catch (error) {
      socket.close();
      throw error;
    }
    makeRoom(socket);
    socket.on("message", (message, { address, port }) => onDatagram(message, { host: address, port }));
    let isClosed = false;
    return {
      port: socket.address().port,
      send: (datagram, { host, port }) => {
        if (!isClosed) socket.send(datagram, port, host);
      },
      close: () => {
        if (isClosed) return;
        isClosed = true;
        socket.close();
      },
    };
  },
};

function socketFor({ host }: UdpAddress): Socket {
  const socket = createSocket({ type: isIP(host) === 6 ? "udp6" : "udp4" });
  // ICMP errors come here.
  socket.on("error", () => undefined);
  return socket;
}

function makeRoom(socket: Socket): void {
  socket.setRecvBufferSize(SOCKET_BUFFER_BYTES);
  socket.setSendBufferSize(SOCKET_BUFFER_BYTES);
}
