import { type ChildProcessWithoutNullStreams, execFile, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface, type Interface } from "node:readline";
import { fileURLToPath } from "node:url";
import {
  type Cell,
  type CellOptions,
  type Outcome,
  Relay,
  type Shell,
  type ToldSplice,
} from "../../../kernel/splice/test/relay.ts";
import {
  type Families,
  HOSTS,
  HOSTS_BEHIND_NATS,
  SET_UP_HOSTS,
  SET_UP_HOSTS_BEHIND_NATS,
  SOURCES,
  SOURCES_BEHIND_NATS,
  wireEnds,
} from "../../../kernel/splice/test/relay-topology.ts";
import { complaintsIn } from "../../../test/vm/src/complaints.ts";
import type { CellPorts, CellSpec, DataPathStats, EbpfOptions, ExpectedSources } from "../src/index.ts";
import type { Request } from "./child/ebpf-relay.ts";

const CHILD = fileURLToPath(new URL("./child/ebpf-relay.ts", import.meta.url));
const PROGRAMS = fileURLToPath(new URL("../../../kernel/splice/test/", import.meta.url));
const PROGRAM_NAMES = ["leg", "wire", "crowd", "flood"];
const SCRIPT_MS = 120_000;
const MOST_OUTPUT = 16 * 1024 * 1024;
const GONE_MS = 20_000;

/** A map or a program, as bpftool tells of it. */
interface BpfThing {
  readonly id: number;
  readonly name?: string;
  readonly map_ids?: readonly number[];
  readonly bytes_memlock?: number;
}

export interface EbpfRelayOptions {
  behindNats?: boolean;
  tcpTimes?: EbpfOptions["tcpTimes"];
}

export interface WireOptions {
  families?: Families;
  halfMs?: number;
}

const shell: Shell = {
  run: (script, timeoutMs = SCRIPT_MS) =>
    new Promise<Outcome>((resolve, reject) => {
      const options = { timeout: timeoutMs, maxBuffer: MOST_OUTPUT };
      execFile("sh", ["-c", `exec 2>&1\n${script}`], options, (error, output) => {
        if (error && typeof error.code !== "number") reject(new Error(`${error.message}\n${output}`));
        else resolve({ status: Number(error?.code ?? 0), output });
      });
    }),
  check: async (script, timeoutMs) => {
    const { status, output } = await shell.run(script, timeoutMs);
    if (status !== 0) throw new Error(`status ${status} of\n${script}\n${output}`);
    return output;
  },
};

/** The hosts on the running kernel, with the BPF data path between them, in a process of its own. */
export class EbpfRelay extends Relay {
  readonly #sources: ExpectedSources;
  readonly #tcpTimes: EbpfOptions["tcpTimes"];
  readonly #since = Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]);
  #child!: ChildProcessWithoutNullStreams;
  #lines!: Interface;
  /** One question at a time. */
  #asked: Promise<unknown> = Promise.resolve();
  #allocations = 0;
  #program!: BpfThing;

  private constructor(folder: string, { behindNats = false, tcpTimes }: EbpfRelayOptions) {
    super(shell, behindNats ? HOSTS_BEHIND_NATS : HOSTS, folder, folder);
    const [a, b] = behindNats ? SOURCES_BEHIND_NATS : SOURCES;
    this.#sources = [a, b];
    this.#tcpTimes = tcpTimes;
  }

  static async start(options: EbpfRelayOptions = {}): Promise<EbpfRelay> {
    const folder = mkdtempSync(join(tmpdir(), "isthmus-relay-"));
    for (const name of PROGRAM_NAMES) {
      execFileSync("gcc", ["-O2", "-Wall", "-Werror", "-o", join(folder, name), join(PROGRAMS, `${name}.c`)]);
    }
    const relay = new EbpfRelay(folder, options);
    await shell.check(options.behindNats ? SET_UP_HOSTS_BEHIND_NATS : SET_UP_HOSTS);
    await relay.startProcess();
    return relay;
  }

  /** Starts the process that has the data path. */
  async startProcess(): Promise<void> {
    const node = [process.execPath, "--conditions=source", CHILD];
    this.#child = spawn("ip", ["netns", "exec", "i", ...node], { stdio: ["pipe", "pipe", "inherit"] }) as never;
    this.#lines = createInterface({ input: this.#child.stdout });
    await this.open(this.#tcpTimes);
    this.#program = (await bpf("prog", await this.ask<number>({ call: "program" })))!;
  }

  open(tcpTimes: EbpfOptions["tcpTimes"]): Promise<null> {
    return this.ask({ call: "open", tcpTimes });
  }

  /** Ends that process, in good order or not. */
  async endProcess(signal?: "SIGKILL"): Promise<void> {
    const ended = once(this.#child, "exit");
    if (signal) this.#child.kill(signal);
    else this.#child.stdin.end();
    await ended;
  }

  ask<T>(request: Request): Promise<T> {
    const next = this.#asked.then(
      () =>
        new Promise<T>((resolve, reject) => {
          this.#lines.once("line", (line) => {
            const { answer, error } = JSON.parse(line) as { answer: T; error?: string };
            if (error === undefined) resolve(answer);
            else reject(new Error(error));
          });
          this.#child.stdin.write(`${JSON.stringify(request)}\n`);
        }),
    );
    this.#asked = next.catch(() => undefined);
    return next;
  }

  async cell({ halfMs, splices }: CellOptions = {}): Promise<Cell> {
    const { id, cells } = await this.#allocate([{ cell: 0 }], { halfMs, splices });
    return { id, ports: cells[0]!.ports };
  }

  async cellsInRow(count: number): Promise<number> {
    const cells = Array.from({ length: count }, (_, cell) => {
      const ports = [20_000 + 2 * cell, 20_001 + 2 * cell] as const;
      return { cell, ports };
    });
    return this.#allocateExactly(cells, { halfMs: 30_000 });
  }

  pureCell(ports: readonly [number, number]): Promise<number> {
    return this.#allocateExactly([{ cell: 0, ports, pure: {} }]);
  }

  /** A fan-out, at ports of its own. */
  async fanout(): Promise<Cell> {
    const { id, cells } = await this.#allocate([{ cell: 0, fanout: { receivers: 10 } }]);
    return { id, ports: cells[0]!.ports };
  }

  /** @throws Error when it got other ports */
  async #allocateExactly(wanted: readonly CellSpec[], options: CellOptions = {}): Promise<number> {
    const { id, cells } = await this.#allocate(wanted, options);
    for (const [n, { ports }] of cells.entries()) {
      if (ports.join() !== wanted[n]!.ports!.join()) throw new Error(`ports ${wanted[n]!.ports} are taken`);
    }
    return id;
  }

  async #allocate(
    cells: readonly CellSpec[],
    { halfMs = 10_000, splices = 0 }: CellOptions = {},
    sources = this.#sources,
  ): Promise<{ id: number; cells: CellPorts[] }> {
    const id = ++this.#allocations;
    const limits = { splices, idleMs: 0, totalMs: 0, bytes: 0, bytesPerSecond: 0, halfMs };
    const spec = { allocation: allocationOf(id), cells, sources, limits };
    return { id, cells: await this.ask<CellPorts[]>({ call: "allocate", spec }) };
  }

  async release(id: number): Promise<void> {
    await this.ask({ call: "release", allocation: allocationOf(id) });
  }

  splices(id: number): Promise<ToldSplice[]> {
    return this.ask({ call: "splices", allocation: allocationOf(id) });
  }

  totals(): Promise<DataPathStats> {
    return this.ask({ call: "stats" });
  }

  counted(reason: string): Promise<{ ended: number; packets: number }> {
    return this.ask({ call: "counted", reason });
  }

  /** Of the maps that grow with splices. */
  async memory(): Promise<{ objects: number; bytes: number }> {
    const maps = await Promise.all(this.#program.map_ids!.map((id) => bpf("map", id)));
    const [splices, flows] = ["ist_splices", "ist_flows"].map((name) => maps.find((map) => map?.name === name)!);
    const objects = await this.ask<number>({ call: "remembered" });
    return { objects, bytes: Number(splices!.bytes_memlock) + Number(flows!.bytes_memlock) };
  }

  async hearReplaced(body: () => Promise<void>): Promise<number> {
    const before = await this.ask<number>({ call: "halves-ended" });
    await body();
    return (await this.ask<number>({ call: "halves-ended" })) - before;
  }

  /** Runs a script of wire.c at a cell of its own, and releases that. @returns the state of the newest splice there */
  async wire(script: string, { families = [4, 4], halfMs = 10_000 }: WireOptions = {}): Promise<string | undefined> {
    const ends = wireEnds(this.#allocations);
    const { id, cells } = await this.#allocate([{ cell: 0 }], { halfMs }, ends.sources);
    await shell.check(`${this.bin}/wire ${ends.words(cells[0]!.ports, families).join(" ")} <<'END'\n${script}\nEND`);
    const splices = await this.splices(id);
    await this.release(id);
    return splices.at(-1)?.state;
  }

  /** What is left of the programs and maps; waits while something is, for the kernel lets go of them late. */
  async leftOfBpf(): Promise<string[]> {
    const { id, map_ids = [] } = this.#program;
    for (const deadline = Date.now() + GONE_MS; ; ) {
      const found = await Promise.all([bpf("prog", id), ...map_ids.map((map) => bpf("map", map))]);
      const left = found.flatMap((each) => (each ? [`${each.name} is still there`] : []));
      if (left.length === 0 || Date.now() > deadline) return left;
      await shell.check("sleep 0.1");
    }
  }

  /** What the kernel has complained of since the start. */
  async complaints(): Promise<string[]> {
    const lines = (await shell.check("dmesg")).split("\n");
    return complaintsIn(lines.filter((line) => Number(/^\[ *([\d.]+)\]/.exec(line)?.[1]) > this.#since));
  }

  async unload(): Promise<string[]> {
    await this.ask({ call: "close" });
    await this.endProcess();
    await this.removeHosts();
    return [...(await this.leftOfBpf()), ...(await this.complaints())];
  }

  async removeHosts(): Promise<void> {
    await shell.check("for host in $(ls /run/netns); do ip netns del $host; done");
  }

  /** Ends what is still there of all of it. */
  async stop(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) await this.endProcess("SIGKILL");
    await this.removeHosts();
    rmSync(this.scratch, { recursive: true });
  }
}

function allocationOf(id: number): string {
  return id.toString(16).padStart(16, "0");
}

async function bpf(kind: "prog" | "map", id: number): Promise<BpfThing | undefined> {
  const { status, output } = await shell.run(`bpftool -j ${kind} show id ${id}`);
  return status === 0 ? (JSON.parse(output) as BpfThing) : undefined;
}
