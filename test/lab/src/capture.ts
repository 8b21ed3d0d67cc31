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
    const args = ["-i", iface, "-Z", "root", "--immediate-mode", "-U", "-n", "-s", "0", "-w", file, filter];
    const tcpdump = node.spawn("tcpdump", args);
    await tcpdump.waitForOutput(/listening on/);
    return new Capture(file, tcpdump);
  }

  /**
   * Ends the recording after the packets that the kernel has already seen, and returns how many are in the file.
   * @throws LabError when some were missed, for then the file proves nothing
   */
  async stop(): Promise<number> {
    let captured = -1;
    for (let received = 0; captured < received; ) {
      const from = this.#tcpdump.output.position;
      this.#tcpdump.kill("SIGUSR1");
      const counts = /(\d+) packets? captured, (\d+) packets? received by filter, (\d+) packets? dropped by kernel/;
      const match = await this.#tcpdump.waitForOutput(counts, undefined, from);
      if (Number(match[3]) > 0) throw new LabError(`${this.#tcpdump.name} missed ${match[3]} packets`);
      captured = Number(match[1]);
      received = Number(match[2]);
    }
    await this.#tcpdump.stop("SIGINT");
    return captured;
  }

  async destroy(): Promise<void> {
    await this.#tcpdump.destroy();
  }
}
