import type { Code, Side } from "@isthmus/protocol";
import type { CellPorts } from "../data-path.ts";
import type { CellHost } from "./cell-host.ts";
import { closePort, type PortSockets } from "./port-sockets.ts";
import { RelayedUdpCell } from "./relayed-udp-cell.ts";
import { TcpCell } from "./tcp-cell.ts";
import { UdpCell, type UdpLegs } from "./udp-cell.ts";

/** One cell and the sockets of its two ports. */
export class Cell {
  readonly number: number;
  readonly #sides: readonly [PortSockets, PortSockets];
  readonly #tcp: TcpCell;
  readonly #udp: UdpLegs;

  /**
   * @param onSocketError a listening socket failed to take a leg: there are too few descriptors, above all
   * @throws Error with the system's code; the ports stay the caller's then
   */
  constructor(
    host: CellHost,
    number: number,
    sides: readonly [PortSockets, PortSockets],
    onSocketError: (error: Error) => void,
  ) {
    this.number = number;
    this.#sides = sides;
    this.#tcp = new TcpCell(host, number);
    const { datagrams, account } = host;
    const bound = [sides[0].bound, sides[1].bound] as const;
    this.#udp =
      datagrams && account.pumpAccount
        ? new RelayedUdpCell(host, number, datagrams, account.pumpAccount, bound)
        : this.#portable(host);
    for (const side of [0, 1] as const) this.#listen(side, onSocketError);
  }

  get ports(): CellPorts {
    return { cell: this.number, ports: [this.#sides[0].port, this.#sides[1].port] };
  }

  setHalfMs(halfMs: number): void {
    this.#tcp.setHalfMs(halfMs);
  }

  /** Others are expected now. */
  expectAnew(): void {
    this.#udp.expectAnew();
  }

  /** Unpaired legs and the UDP splice end; TCP splices go on. */
  close(code: Code): void {
    for (const sockets of this.#sides) closePort(sockets);
    this.#tcp.close(code);
    this.#udp.close(code);
  }

  #portable(host: CellHost): UdpCell {
    const udp = new UdpCell(host, this.number);
    for (const side of [0, 1] as const) {
      for (const socket of this.#sides[side].sockets) {
        socket.on("message", (datagram, from) => udp.receive(side, socket, datagram, from));
      }
    }
    return udp;
  }

  #listen(side: Side, onSocketError: (error: Error) => void): void {
    const { servers, sockets } = this.#sides[side];
    for (const server of servers) {
      server.on("connection", (socket) => this.#tcp.accept(side, socket));
      server.on("error", onSocketError);
    }
    for (const socket of sockets) socket.on("error", onSocketError);
  }
}
