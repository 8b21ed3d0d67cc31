import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { once } from "node:events";
import { connect } from "node:net";
import { TestLeg } from "./test-leg.ts";

/** A host from which legs come. */
export interface TestHost {
  /** Its address as the IST sees it. */
  readonly address: string;
  /** The IST's address as the host reaches it. */
  readonly ist: string;
  /** Starts to connect; a data path may answer only when both legs are there. */
  connect(port: number): TestLeg;
  /** A bound UDP socket. */
  bind(): Promise<UdpSocket>;
}

/** The hosts of a compliance run. */
export interface TestHosts {
  /** The expected sources of side 0 and side 1. */
  readonly sides: readonly [TestHost, TestHost];
  readonly stranger: TestHost;
  /** The same over IPv6, where the place has it. */
  readonly sides6?: readonly [TestHost, TestHost];
}

/** Hosts that are addresses of this machine's loopback device. */
export function loopbackHosts(): TestHosts {
  return {
    sides: [loopbackHost("127.0.0.1", "127.0.0.1"), loopbackHost("127.0.0.3", "127.0.0.1")],
    stranger: loopbackHost("127.0.0.2", "127.0.0.1"),
    sides6: [loopbackHost("::1", "::1"), loopbackHost("::1", "::1")],
  };
}

function loopbackHost(address: string, ist: string): TestHost {
  return {
    address,
    ist,
    connect: (port) =>
      new TestLeg(connect({ host: ist, port, localAddress: address, allowHalfOpen: true, noDelay: true })),
    bind: async () => {
      const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
      socket.bind(0, address);
      await once(socket, "listening");
      return socket;
    },
  };
}
