import type { Socket } from "node:net";
import { type Code, canonicalIp, type Side } from "@isthmus/protocol";
import { CellRendezvous, type LegId, type RendezvousCommand } from "../rendezvous.ts";
import { resetSocket } from "../splice/reset-socket.ts";
import { WaitingLeg } from "../splice/waiting-leg.ts";
import { type CellHost, halfClosed } from "./cell-host.ts";

/** The TCP legs of one cell: carries out what the rendezvous decides. */
export class TcpCell {
  readonly #host: CellHost;
  readonly #cell: number;
  #rendezvous: CellRendezvous;
  readonly #legs = new Map<LegId, { side: Side; leg: WaitingLeg }>();
  #ids = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(host: CellHost, cell: number) {
    this.#host = host;
    this.#cell = cell;
    this.#rendezvous = new CellRendezvous(host.account.limits.halfMs);
  }

  accept(side: Side, socket: Socket): void {
    socket.on("error", ignore);
    const source = socket.remoteAddress;
    // Without an address the peer has reset it already.
    if (source === undefined || !this.#host.expects(side, source)) {
      if (source !== undefined) this.#host.tally.countClosed("stranger");
      resetSocket(socket);
      return;
    }
    const { allocation } = this.#host;
    const id = ++this.#ids;
    const leg = new WaitingLeg(socket, () => this.#gone(side, id));
    this.#legs.set(id, { side, leg });
    this.#host.countHalves(1);
    this.#run(this.#rendezvous.arrive(side, id, leg.since));
    if (!this.#legs.has(id)) return;
    this.#host.emit({
      event: "half",
      allocation,
      cell: this.#cell,
      proto: "tcp",
      side,
      source: { host: canonicalIp(source), port: socket.remotePort! },
    });
  }

  /** Legs that wait are held to the new time, too. */
  setHalfMs(halfMs: number): void {
    this.#rendezvous = new CellRendezvous(halfMs);
    for (const [id, { side, leg }] of this.#legs) this.#rendezvous.arrive(side, id, leg.since);
    this.#run(this.#rendezvous.expire(performance.now()));
  }

  close(code: Code): void {
    this.#run(this.#rendezvous.close(code));
  }

  #gone(side: Side, id: LegId): void {
    this.#legs.delete(id);
    this.#rendezvous.gone(side, id);
    halfClosed(this.#host, this.#cell, "tcp", "reset");
    this.#arm();
  }

  #run(commands: RendezvousCommand[]): void {
    for (const command of commands) {
      if (command.do === "end") this.#end(command.leg, command.code);
      else this.#pair(command.legs);
    }
    this.#arm();
  }

  #end(id: LegId, code: Code): void {
    this.#take(id).reset();
    halfClosed(this.#host, this.#cell, "tcp", code);
  }

  #pair([a, b]: [LegId, LegId]): void {
    const { allocation, splicer, tally } = this.#host;
    const at = { allocation, cell: this.#cell, proto: "tcp" } as const;
    const legs = [this.#take(a).take(), this.#take(b).take()] as const;
    this.#host.countHalves(-1);
    this.#host.countHalves(-1);
    const refusal = splicer.splice({
      allocation,
      legs,
      cell: this.#cell,
      tally,
      onPaired: (splice) => {
        this.#host.emit({ event: "paired", ...at, splice });
        // The system has answered both legs before they were seen here.
        this.#host.emit({ event: "established", ...at, splice });
      },
      onClosed: (splice, code) => this.#host.emit({ event: "closed", ...at, splice, code }),
    });
    if (refusal !== undefined) this.#host.emit({ event: "closed", ...at, code: refusal });
  }

  #take(id: LegId): WaitingLeg {
    const { leg } = this.#legs.get(id)!;
    this.#legs.delete(id);
    return leg;
  }

  #arm(): void {
    clearTimeout(this.#timer);
    const { wakeAt } = this.#rendezvous;
    if (wakeAt === undefined) return;
    const waitMs = Math.max(0, Math.ceil(wakeAt - performance.now()));
    this.#timer = setTimeout(() => this.#run(this.#rendezvous.expire(performance.now())), waitMs);
  }
}

function ignore(): void {}
