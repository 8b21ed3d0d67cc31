import type { UdpSockets } from "@isthmus/native/udp";
import { type HostPort, LIMITS } from "@isthmus/protocol";
import type { FlowEndpoint } from "./flow.ts";

/** A UDP socket towards a service on this host or in its LAN, one for each flow, as its client would have had. */
export function serviceEndpoint(
  sockets: UdpSockets,
  target: HostPort,
  received: (payload: Buffer) => void,
): FlowEndpoint {
  const early: Buffer[] = [];
  let isReady = false;
  // A closed port answers with ICMP: UDP's way to say that nobody is there, passed on as silence.
  const connection = sockets.connect(target, {
    datagram: received,
    ready: () => {
      isReady = true;
      for (const payload of early.splice(0)) connection.send(payload);
    },
  });
  return {
    deliver: (payload) => {
      if (isReady) connection.send(payload);
      else if (early.length < LIMITS.earlyDatagrams) early.push(payload);
    },
    close: () => connection.close(),
  };
}
