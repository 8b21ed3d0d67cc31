import type { Code, Side } from "@isthmus/protocol";
import type { CellPorts } from "../data-path.ts";
import type { CellHost } from "./cell-host.ts";
import { closePort, type PortSockets } from "./port-sockets.ts";
import { TcpCell } from "./tcp-cell.ts";
import { UdpCell } from "./udp-cell.ts";

/** One cell and the sockets of its two ports. */
export class Cell {
  readonly number: number;
  readonly #sides: readonly [PortSockets, PortSockets];
  readonly #tcp: TcpCell;
  readonly #udp: UdpCell;

  /** @param onSocketError a listening socket failed to take a leg: there are too few descriptors, above all */
  constructor(
    host: CellHost,
    number: number,
    sides: readonly [PortSockets, PortSockets],
    onSocketError: (error: Error) => void,
  ) {
    this.number = number;
    this.#sides = sides;
    this.#tcp = new TcpCell(host, number);
    this.#udp = new UdpCell(host, number);
    for (const side of [0, 1] as const) this.#listen(side, onSocketError);
  }

  get ports(): CellPorts {
    return { cell: this.number, ports: [this.#sides[0].port, this.#sides[1].port] };
  }

  setHalfMs(halfMs: number): void {
    this.#tcp.setHalfMs(halfMs);
  }

  /** Unpaired legs and the UDP splice end; TCP splices go on. */
  close(code: Code): void {
    for (const sockets of this.#sides) closePort(sockets);
    this.#tcp.close(code);
    this.#udp.close(code);
  }

  #listen(side: Side, onSocketError: (error: Error) => void): void {
    const { servers, sockets } = this.#sides[side];
    for (const server of servers) {
      server.on("connection", (socket) => this.#tcp.accept(side, socket));
      server.on("error", onSocketError);
    }
    for (const socket of sockets) {
      socket.on("message", (datagram, from) => this.#udp.receive(side, socket, datagram, from));
      socket.on("error", onSocketError);
    }
  }
}
