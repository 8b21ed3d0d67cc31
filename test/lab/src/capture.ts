import { join } from "node:path";
import { LabError } from "./lab-error.ts";
import type { Node } from "./node.ts";
import type { Program } from "./program.ts";

export interface CaptureOptions {
  /** Default: all of the node's interfaces. */
  iface?: string;
  /** In tcpdump's own language, for example `udp and port 4000`. */
  filter?: string;
}

/** The kernel's buffer, in KiB: a second of a fast transfer. */
const BUFFER_KIB = 65_536;

/** tcpdump's answer to SIGUSR1. */
const COUNTS = /(\d+) packets? captured, (\d+) packets? received by filter, (\d+) packets? dropped by kernel/;

/** tcpdump's last words. */
const CAPTURED = /(\d+) packets? captured\n/;

/** A tcpdump that writes whole packets to a file. */
export class Capture {
  /** The pcap file; complete once `stop` has returned. */
  readonly file: string;
  readonly #tcpdump: Program;

  private constructor(file: string, tcpdump: Program) {
    this.file = file;
    this.#tcpdump = tcpdump;
  }

  static #count = 0;

  /** Resolves when every further packet will be in the file. */
  static async start(node: Node, { iface = "any", filter = "" }: CaptureOptions): Promise<Capture> {
    const file = join(node.folder, `capture-${Capture.#count++}.pcap`);
    // As root (-Z), or tcpdump could not write to the folder; at once (-U), or the end of the file would lag behind.
    const buffer = ["--immediate-mode", "-U", "-B", String(BUFFER_KIB)];
    const args = ["-i", iface, "-Z", "root", ...buffer, "-n", "-s", "0", "-w", file, filter];
    const tcpdump = node.spawn("tcpdump", args);
    await tcpdump.waitForOutput(/listening on/);
    return new Capture(file, tcpdump);
  }

  /**
   * Ends the recording after the packets that the kernel has already seen, and returns how many are in the file.
   * @throws LabError when some were missed, for then the file proves nothing
   */
  async stop(): Promise<number> {
    const { received } = await this.#counts();
    while ((await this.#counts()).captured < received);
    await this.#tcpdump.stop("SIGINT");
    const [, captured] = CAPTURED.exec(this.#tcpdump.output.lastLines())!;
    return Number(captured);
  }

  async destroy(): Promise<void> {
    await this.#tcpdump.destroy();
  }

  async #counts(): Promise<{ captured: number; received: number }> {
    const from = this.#tcpdump.output.position;
    this.#tcpdump.kill("SIGUSR1");
    const [, captured, received, missed] = await this.#tcpdump.waitForOutput(COUNTS, undefined, from);
    if (Number(missed) > 0) throw new LabError(`${this.#tcpdump.name} missed ${missed} packets`);
    return { captured: Number(captured), received: Number(received) };
  }
}
