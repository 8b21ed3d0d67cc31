import { createSocket } from "node:dgram";
import { isIP } from "node:net";
import { type HostPort, LIMITS } from "@isthmus/protocol";
import type { FlowEndpoint } from "./flow.ts";

/** A UDP socket towards a service on this host or in its LAN, one for each flow, as its client would have had. */
export function serviceEndpoint(target: HostPort, received: (payload: Buffer) => void): FlowEndpoint {
  const socket = createSocket({ type: isIP(target.host) === 6 ? "udp6" : "udp4" });
  const early: Buffer[] = [];
  let isReady = false;
  let isClosed = false;
  socket.on("message", (message) => received(message));
  // A closed port answers with ICMP: UDP's way to say that nobody is there, passed on as silence.
  socket.on("error", () => undefined);
  socket.connect(target.port, target.host, (error?: Error) => {
    if (error || isClosed) return;
    isReady = true;
    for (const payload of early.splice(0)) socket.send(payload);
  });
  return {
    deliver: (payload) => {
      if (isClosed) return;
      if (isReady) socket.send(payload);
      else if (early.length < LIMITS.earlyDatagrams) early.push(payload);
    },
    close: () => {
      if (isClosed) return;
      isClosed = true;
      socket.close();
    },
  };
}
