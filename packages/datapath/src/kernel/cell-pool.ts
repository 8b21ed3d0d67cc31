import type { Logger } from "@isthmus/service";
import type { CellPorts, CellSpec, PortRange } from "../data-path.ts";
import { PortPool } from "../port-pool.ts";
import { ephemeralOverlap } from "../port-range.ts";
import { closePort, openPort } from "../userspace/port-sockets.ts";
import { wildcards } from "../userspace/wildcards.ts";
import { reservePorts } from "./reserved-ports.ts";

/** Ports that turn out to be taken in the kernel are replaced this often. */
const PORT_TRIES = 5;

/** Ports for cells of data paths that take whole ports, on all addresses, ahead of the host's sockets. */
export class CellPool {
  readonly #range: PortRange;
  readonly #pool: PortPool;
  readonly #addresses: readonly string[];

  private constructor(range: PortRange, addresses: readonly string[]) {
    this.#range = range;
    this.#pool = new PortPool(range);
    this.#addresses = addresses;
  }

  static async of(range: PortRange): Promise<CellPool> {
    return new CellPool(range, await wildcards());
  }

  /** Keeps the system from giving these ports to others, as far as it lets us. */
  reserve(logger: Logger): void {
    const overlap = ephemeralOverlap(this.#range);
    if (overlap !== undefined) logger.warn({}, overlap);
    try {
      reservePorts(this.#range);
    } catch (error) {
      logger.warn({ err: error }, `ports ${this.#range.from}-${this.#range.to} could not be reserved`);
    }
  }

  /** Cells that are there already. */
  hold(cells: readonly CellPorts[]): void {
    for (const { ports } of cells) for (const port of ports) this.#pool.hold(port);
  }

  give(cells: readonly CellPorts[]): void {
    for (const { ports } of cells) for (const port of ports) this.#pool.give(port);
  }

  /**
   * Finds ports for cells and has them used; other ones, when `isTaken` says of what `use` throws that somebody has one.
   * @throws IsthmusError `ist-full`, and what `use` throws; the ports are free again then
   */
  async with(
    specs: readonly CellSpec[],
    isTaken: (error: unknown) => boolean,
    use: (cells: CellPorts[]) => void | Promise<void>,
  ): Promise<void> {
    for (let tries = 1; ; tries++) {
      const cells: CellPorts[] = [];
      try {
        for (const spec of specs) cells.push(await this.#cell(spec));
        await use(cells);
        return;
      } catch (error) {
        this.give(cells);
        if (!isTaken(error) || tries === PORT_TRIES) throw error;
        // Nobody knows which one it was: none of them is asked for once more.
        specs = specs.map(({ cell, pure, fanout }) => ({ cell, pure, fanout }));
      }
    }
  }

  async #cell({ cell, ports, pure, fanout }: CellSpec): Promise<CellPorts> {
    if (pure?.learns !== undefined) {
      const port = await this.#port(ports?.[pure.learns]);
      return { cell, ports: pure.learns === 0 ? [port, 0] : [0, port], pure };
    }
    const first = await this.#port(ports?.[0]);
    const kind = { ...(pure ? { pure } : {}), ...(fanout ? { fanout } : {}) };
    return { cell, ports: [first, await this.#port(ports?.[1], first)], ...kind };
  }

  /** A port on which no socket of this host is: its packets would be taken away. */
  async #port(wanted: number | undefined, first?: number): Promise<number> {
    try {
      return await this.#pool.take(wanted, async (port) => {
        closePort(await openPort(this.#addresses, port));
        return port;
      });
    } catch (error) {
      if (first !== undefined) this.#pool.give(first);
      throw error;
    }
  }
}
