import { type Deployment, type Ist, kernelRelay, until } from "@isthmus/e2e";
import type { Lab } from "@isthmus/lab";
import type { GuestNode } from "@isthmus/vm";
import { detail, step } from "./narrate.ts";

/** The daemons are told of the IST's load, and its page of metrics is brought up to date, this often. */
const COUNT_EVERY_S = 1;
const MIB = 1024 * 1024;

/** What was moved so far, and by whom. */
interface Counts {
  /** By the module. */
  kernelBytes: number;
  /** Read and written by the IST's process, whatever it was. */
  processBytes: number;
  processSeconds: number;
}

/** The demo's IST on a virtual machine, with the module `ist_splice` as its data path. */
export class KernelIst {
  readonly #node: GuestNode;

  private constructor(node: GuestNode) {
    this.#node = node;
  }

  static async boot(lab: Lab): Promise<KernelIst> {
    step("A virtual machine for the relay, for the module that splices runs in its kernel and not in this host's.");
    const started = performance.now();
    const node = await kernelRelay(lab, "ist");
    const seconds = ((performance.now() - started) / 1000).toFixed(0);
    detail(`Linux ${node.machine.kernel.version}, ist_splice compiled for it and loaded (${seconds} s)`);
    return new KernelIst(node);
  }

  /** For a deployment that uses it. */
  get options(): { ists: GuestNode[]; istFlags: string[]; env: NodeJS.ProcessEnv } {
    return {
      ists: [this.#node],
      istFlags: ["--data-path", "kernel"],
      env: { ISTHMUS_IST_LOAD_SECONDS: String(COUNT_EVERY_S) },
    };
  }

  /** What the IST says of its data path. */
  async describe(ist: Deployment["ist"]): Promise<string> {
    const line = (await ist.status()).split("\n").find((each) => each.startsWith("data path"));
    if (!line?.includes("kernel")) throw new Error(`the IST does not splice in its kernel: ${line}`);
    return `the IST's ${line.replace(/ +/g, " ")}`;
  }

  async counts(ist: Ist): Promise<Counts> {
    const { pid } = ist.program;
    const [kernelBytes, io, stat] = await Promise.all([
      ist.metric('isthmus_ist_bytes_total{at="cell"}'),
      this.#node.read("cat", [`/proc/${pid}/io`]),
      this.#node.read("cat", [`/proc/${pid}/stat`]),
    ]);
    const number = (name: string) => Number(new RegExp(`^${name}: (\\d+)$`, "m").exec(io)![1]);
    // User and system time are the 12th and 13th field behind the name, in hundredths of a second.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const processSeconds = (Number(fields[11]) + Number(fields[12])) / 100;
    return { kernelBytes, processBytes: number("rchar") + number("wchar"), processSeconds };
  }

  /** @throws Error when the module did not move at least so many bytes since then */
  async moved(ist: Ist, before: Counts, leastBytes: number): Promise<string> {
    const after = await until("the module has counted the download", async () => {
      const counts = await this.counts(ist);
      return counts.kernelBytes - before.kernelBytes >= leastBytes ? counts : undefined;
    });
    const mib = (key: "kernelBytes" | "processBytes") => ((after[key] - before[key]) / MIB).toFixed(1);
    const seconds = (after.processSeconds - before.processSeconds).toFixed(1);
    const finished = await ist.metric('isthmus_ist_closed_total{at="cell",reason="finished"}');
    return [
      `moved by the IST's kernel: ${mib("kernelBytes")} MiB; read and written by the IST's process meanwhile: ${mib("processBytes")} MiB, in ${seconds} s of CPU time`,
      `splices by kernel that have come to their end so far: ${finished}`,
    ].join("\n");
  }
}
