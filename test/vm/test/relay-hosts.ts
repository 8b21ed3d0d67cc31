import { resolve } from "node:path";
import { IST_FAMILY } from "@isthmus/native/netlink";
import { buildModule, type Kernel, type KernelModule, VirtualMachine, type VirtualMachineOptions } from "@isthmus/vm";
import { type Cell, type CellOptions, Relay, type ToldSplice } from "../../../kernel/splice/test/relay.ts";
import {
  type Families,
  HOSTS,
  HOSTS_BEHIND_NATS,
  SET_UP_HOSTS,
  SET_UP_HOSTS_BEHIND_NATS,
  SOURCES_BEHIND_NATS,
  SOURCES as SOURCES_OF_HOSTS,
  wireEnds,
} from "../../../kernel/splice/test/relay-topology.ts";

const TOOLS = resolve(import.meta.dirname, "../../../kernel/splice/test");
const TOOL_NAMES = ["istctl", "leg", "wire"];
/** Where they are in the guest's memory: from the host's files each start would take much longer. */
const BIN = "/tmp/relay-tools";

const PAGE_BYTES = 4096;

/** Some hundred programs are started, on a machine that has just come up. */
const SET_UP_MS = 300_000;

function sourceOf(tool: string): string {
  return resolve(TOOLS, `${tool}.c`);
}

export interface RelayMachineOptions extends Pick<VirtualMachineOptions, "memoryMiB" | "countInstructions"> {
  behindNats?: boolean;
  /** Further tools, in the folder that the machine shares. */
  tools?: readonly string[];
  /** Each kind of object has a cache of its own, so that it can be counted. */
  countsObjects?: boolean;
}

export interface RelayMachine {
  readonly module: KernelModule;
  readonly vm: VirtualMachine;
  readonly hosts: RelayHosts;
}

/** Boots a machine with the module and the hosts. */
export async function bootRelay(
  kernel: Kernel,
  { behindNats, tools = [], countsObjects, ...options }: RelayMachineOptions = {},
): Promise<RelayMachine> {
  const module = buildModule("splice", kernel);
  const vm = await VirtualMachine.boot({
    kernel,
    kernelArguments: countsObjects ? ["slab_nomerge"] : [],
    ...options,
  });
  try {
    await vm.load(module);
    vm.compile(...tools.map(sourceOf));
    return { module, vm, hosts: await RelayHosts.on(vm, { behindNats, tools }) };
  } catch (error) {
    await vm.stop();
    throw error;
  }
}

/** The sources of both hosts, as words of istctl. */
export const SOURCES = sourceWords(SOURCES_OF_HOSTS);

/** The hosts in a virtual machine, with the module between them. */
export class RelayHosts extends Relay {
  readonly vm: VirtualMachine;
  /** What the relay sees of both hosts, as words of istctl. */
  readonly sources: string;
  #cells = 0;
  #ghosts = 0;

  private constructor(vm: VirtualMachine, isBehindNats: boolean) {
    super(vm, isBehindNats ? HOSTS_BEHIND_NATS : HOSTS, BIN, "/tmp");
    this.vm = vm;
    this.sources = sourceWords(isBehindNats ? SOURCES_BEHIND_NATS : SOURCES_OF_HOSTS);
  }

  /** @param tools further ones, of `vm.share` */
  static async on(
    vm: VirtualMachine,
    { behindNats = false, tools = [] }: { behindNats?: boolean; tools?: readonly string[] } = {},
  ): Promise<RelayHosts> {
    vm.compile(...TOOL_NAMES.map(sourceOf));
    const script = `
      mkdir -p ${BIN} && cp ${[...TOOL_NAMES, ...tools].map((tool) => `${vm.guestShare}/${tool}`).join(" ")} ${BIN}
      ${behindNats ? SET_UP_HOSTS_BEHIND_NATS : SET_UP_HOSTS}
    `;
    await vm.check(script, SET_UP_MS);
    return new RelayHosts(vm, behindNats);
  }

  async remove(): Promise<void> {
    await this.vm.check("for host in $(ls /run/netns); do ip netns del $host; done");
  }

  /** Removes the hosts and the module. @returns what the kernel has complained of, and memory that was left */
  async unload(): Promise<string[]> {
    await this.remove();
    await this.vm.check("/sbin/rmmod ist_splice");
    const leaks = await this.vm.leaks();
    return [...(leaks === "" ? [] : [leaks]), ...this.vm.complaints()];
  }

  /** Asks the module on the relay. @throws VmError with the kernel's text */
  istctl(words: string): Promise<string> {
    return this.vm.check(`ip netns exec i ${BIN}/istctl ${words}`);
  }

  /** The kernel's refusal. */
  async refusal(words: string): Promise<string> {
    const { status, output } = await this.vm.run(`ip netns exec i ${BIN}/istctl ${words}`);
    return status === 0 ? "not refused" : output.trim();
  }

  /** An allocation of one passive cell with ports of its own, above those that tests choose. */
  async cell({ halfMs, splices, words = "" }: CellOptions & { words?: string } = {}): Promise<Cell> {
    const limits = [
      ...(halfMs === undefined ? [] : [`timeout half ${halfMs}`]),
      ...(splices === undefined ? [] : [`limit splices ${splices}`]),
    ];
    const { id, ports, request } = this.#nextCell([...limits, words].join(" "), this.sources);
    await this.istctl(request);
    return { id, ports };
  }

  async cellsInRow(count: number): Promise<number> {
    const cells = Array.from({ length: count }, (_, n) => `cell ${n} passive ${20_000 + 2 * n} ${20_001 + 2 * n}`);
    const { id } = this.#nextCell("", this.sources);
    const times = "timeout half 30000 timeout time-wait 1000 timeout closed 1000";
    await this.istctl(`new ${id} ${this.sources} ${cells.join(" ")} ${times}`);
    return id;
  }

  async pureCell([a, b]: readonly [number, number]): Promise<number> {
    const { id } = this.#nextCell("", this.sources);
    await this.istctl(`new ${id} ${this.sources} cell 0 pure ${a} ${b} ${b} ${a}`);
    return id;
  }

  async release(id: number): Promise<void> {
    await this.istctl(`del ${id}`);
  }

  async splices(id: number): Promise<ToldSplice[]> {
    const { state: states, reason: reasons } = IST_FAMILY.enums;
    return [...(await this.istctl(`splices ${id}`)).matchAll(/^splice .* state=(\d+) reason=(\d+)(.*)$/gm)].map(
      ([, state, reason, legs]) => ({
        state: states[Number(state)]!,
        reason: reasons[Number(reason)]!,
        ends: [...legs!.matchAll(/ (\S+)>/g)].map(([, end]) => end!),
      }),
    );
  }

  #nextCell(words: string, sources: string): Cell & { request: string } {
    const n = ++this.#cells;
    const id = 100_000 + n;
    const ports = [40_000 + 2 * n, 40_001 + 2 * n] as const;
    return { id, ports, request: `new ${id} ${sources} cell 0 passive ${ports.join(" ")} ${words}` };
  }

  /** Numbers of the relay's statistics by name; `rN` are the reasons, "ended/packets". */
  async stats(): Promise<Record<string, string>> {
    const words = (await this.istctl("stats")).trim().split(" ").slice(1);
    return Object.fromEntries(words.map((word) => word.split("=") as [string, string]));
  }

  async totals(): Promise<{ halves: number; splices: number; bytes: number }> {
    const { halves, splices, bytes } = await this.stats();
    return { halves: Number(halves), splices: Number(splices), bytes: Number(bytes) };
  }

  async counted(reason: string): Promise<{ ended: number; packets: number }> {
    const number = (IST_FAMILY.enums.reason as readonly string[]).indexOf(reason);
    const [ended, packets] = ((await this.stats())[`r${number}`] ?? "0/0").split("/").map(Number);
    return { ended: ended!, packets: packets! };
  }

  /** Of a machine that counts objects. */
  async memory(): Promise<{ objects: number; bytes: number }> {
    const [objects, slabs, order] = (
      await this.vm.check(`
        cd /sys/kernel/slab/ist_splice && echo 1 >shrink
        cut -d' ' -f1 objects && cut -d' ' -f1 slabs && cat order
      `)
    )
      .trim()
      .split("\n")
      .map(Number) as [number, number, number];
    return { objects, bytes: slabs * (PAGE_BYTES << order) };
  }

  async hearReplaced(body: () => Promise<void>): Promise<number> {
    const listening = this.vm.check(`
      ip netns exec i timeout 60 ${BIN}/istctl events 60 >/tmp/replaced & echo $! >/tmp/listener; wait; true`);
    await this.vm.check("until grep -q listening /tmp/replaced; do sleep 0.1; done");
    await body();
    await this.vm.check("kill $(cat /tmp/listener)");
    await listening;
    return Number(await this.vm.check(`grep -c reason=${IST_FAMILY.enums.reason.indexOf("replaced")} /tmp/replaced`));
  }

  /**
   * Runs a script of wire.c on a cell of its own, between addresses that are nobody's, at `a` and `b`.
   * @param words for the allocation; SYN-ACKs are not repeated unless these say so
   * @returns the splices that are there afterwards @throws VmError with what was not as it should be
   */
  async wire(
    script: string,
    { families = [4, 4], words = "timeout syn-ack 60000" }: WireOptions = {},
  ): Promise<string> {
    const ends = wireEnds(this.#ghosts++);
    const { id, ports, request } = this.#nextCell(words, sourceWords(ends.sources));
    return this.vm.check(`
      set -e
      ip netns exec i ${BIN}/istctl ${request}
      ${BIN}/wire ${ends.words(ports, families).join(" ")} <<'END'\n${script}\nEND
      ip netns exec i ${BIN}/istctl splices ${id}
    `);
  }
}

function sourceWords(sources: readonly (readonly string[])[]): string {
  return sources.flatMap((each, side) => each.map((address) => `source ${side} ${address}`)).join(" ");
}

export interface WireOptions {
  families?: Families;
  words?: string;
}
