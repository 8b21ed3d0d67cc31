import { LabError } from "./lab-error.ts";
import { delayProgram } from "./native.ts";
import type { Node } from "./node.ts";
import { Program } from "./program.ts";
import { searchPath } from "./tools.ts";

/** One direction of a delay line. */
export interface DelaySettings {
  /** One way, added to each packet. */
  delayMs: number;
  /** Packets lost at random, 0 to 100. */
  lossPercent?: number;
  /** What the line carries; unlimited otherwise. */
  rateMbit?: number;
  /** What may wait for a limited line before it drops. */
  queueKiB?: number;
}

export interface DelayCounts {
  passed: number;
  bytes: number;
  /** To `lossPercent`. */
  lost: number;
  /** To a full queue. */
  overflowed: number;
  /** By a device that was down. */
  refused: number;
}

export type Direction = "out" | "in";

/** A usual home router's buffer: 40 ms at 50 Mbit/s. */
const QUEUE_KIB = 256;

/** `out` is from the attached node to its upstream. */
const WIRE_NAMES = { out: "ab", in: "ba" } as const;

/** A cable with a length: `native/delay.c` between two devices that it makes. */
export class DelayLine {
  readonly #program: Program;
  /** Orders are answered in turn, one line each. */
  #orders: Promise<unknown> = Promise.resolve();

  private constructor(program: Program) {
    this.#program = program;
  }

  /** Makes both devices. @param seed the same seed loses the same packets */
  static async start(
    near: { node: Node; device: string },
    far: { node: Node; device: string },
    seed: number,
  ): Promise<DelayLine> {
    const ends = [near.node.netns, near.device, far.node.netns, far.device];
    const program = Program.start("setpriv", ["--pdeathsig", "KILL", await delayProgram(), ...ends, String(seed)], {
      name: `delay line of ${near.node.name}`,
      env: { PATH: searchPath() },
      stdin: "pipe",
    });
    await program.waitForOutput(/^ready$/m);
    return new DelayLine(program);
  }

  /** Takes effect for packets from now on; no packet overtakes another. */
  async set(direction: Direction, settings: DelaySettings): Promise<void> {
    const numbers = [
      Math.round(settings.delayMs * 1000),
      Math.round((settings.lossPercent ?? 0) * 10_000),
      Math.round((settings.rateMbit ?? 0) * 1000),
      Math.round((settings.queueKiB ?? QUEUE_KIB) * 1024),
    ];
    if (numbers.some((number) => !(number >= 0)))
      throw new LabError(`impossible delay line: ${JSON.stringify(settings)}`);
    await this.#order(`set ${WIRE_NAMES[direction]} ${numbers.join(" ")}`, /^ok$/m);
  }

  async counts(): Promise<Record<Direction, DelayCounts>> {
    const [line] = await this.#order("stats", /^\{.*\}$/m);
    const counts = JSON.parse(line) as { ab: DelayCounts; ba: DelayCounts };
    return { out: counts[WIRE_NAMES.out], in: counts[WIRE_NAMES.in] };
  }

  async destroy(): Promise<void> {
    await this.#program.destroy();
  }

  get unexpectedEnd(): LabError | undefined {
    return this.#program.unexpectedEnd;
  }

  #order(line: string, answer: RegExp): Promise<RegExpExecArray> {
    const answered = this.#orders.then(() => {
      const from = this.#program.output.position;
      this.#program.stdin.write(`${line}\n`);
      return this.#program.waitForOutput(answer, undefined, from);
    });
    this.#orders = answered.catch(() => {});
    return answered;
  }
}
