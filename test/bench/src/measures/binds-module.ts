import { join, resolve } from "node:path";
import { buildModule, installedKernels, type KernelModule, VirtualMachine } from "@isthmus/vm";
import { figure } from "../figure.ts";
import { interleave } from "../rounds.ts";
import { pairedDifferences, pairedRatios } from "../statistics.ts";
import type { Measure } from "./measure.ts";

const ROOT = resolve(import.meta.dirname, "../../../..");
const BINDS = join(ROOT, "test/bench/c/binds.c");
/** natbinder's part in C, which answers at once. */
const DAEMON = join(ROOT, "kernel/natpass/test/natctl.c");
const [ANY, ONE] = ["0.0.0.0", "127.0.0.1"];
const PORT = 20_000;
const COUNT = 1000;
/** The guest's clock goes on by so much with each instruction. */
const INSTRUCTION_NS = 2;

const STATES = {
  native: "true",
  "without a daemon": "/sbin/insmod $module",
  "with a daemon": `
    /sbin/insmod $module
    $share/natctl serve 1024-65535=succeeded >/dev/null & daemon=$!
    sleep 1
  `,
};
type State = keyof typeof STATES;

/** A state of the module, and an address that is bound. */
interface Case {
  state: State;
  address: string;
}

export const bindsModule: Measure = {
  name: "binds-module",
  title: "bind() with nat_pass",
  method: `bind() of UDP sockets by a program in C, ${COUNT} times in each round: the median of a round, in a virtual machine \
with one CPU whose clock counts instructions (${INSTRUCTION_NS} ns each). To 127.0.0.1 it is none of natbinder's; to 0.0.0.0 it is. \
The daemon is one in C that answers every question at once: what remains is the way to it and back, with its switches of tasks, and \
no gateway's time.`,
  async run(say) {
    const [kernel] = installedKernels();
    if (!kernel) throw new Error("no kernel with image and headers (linux-image-amd64, linux-headers-amd64)");
    const module = buildModule("natpass", kernel);
    await using vm = await VirtualMachine.boot({ kernel, countInstructions: true });
    vm.compile(BINDS, DAEMON);
    const cases = (Object.keys(STATES) as State[]).flatMap((state) => [
      { state, address: ONE },
      { state, address: ANY },
    ]);
    const results = await interleave(cases, async (one, round) => {
      const instructions = (await measure(vm, module, one)) / INSTRUCTION_NS;
      say(`round ${round}: ${nameOf(one)} ${instructions} instructions`);
      return instructions;
    });
    const of = (state: State, address: string) =>
      results.get(cases.find((one) => one.state === state && one.address === address)!)!;
    const compared = [
      ["one address, without a daemon", of("without a daemon", ONE), of("native", ONE)],
      ["one address, with a daemon", of("with a daemon", ONE), of("native", ONE)],
      ["all addresses, without a daemon", of("without a daemon", ANY), of("native", ANY)],
      ["all addresses, with a daemon", of("with a daemon", ANY), of("native", ANY)],
    ] as const;
    return [
      ...cases.map((one) => figure(nameOf(one), "instructions", results.get(one)!)),
      ...compared.map(([what, rounds, native]) => figure(`${what} / native`, "ratio", pairedRatios(rounds, native))),
      ...compared.map(([what, rounds, native]) =>
        figure(`added to ${what}`, "instructions", pairedDifferences(rounds, native)),
      ),
    ];
  },
};

function nameOf({ state, address }: Case): string {
  return `${state}, ${address === ONE ? "one address" : "all addresses"}`;
}

/** @returns the median in nanoseconds of the guest's clock */
async function measure(vm: VirtualMachine, module: KernelModule, { state, address }: Case): Promise<number> {
  const said = await vm.check(`
    set -e
    share=${vm.guestShare} module=${module.file}
    ${STATES[state]}
    $share/binds ${address} ${PORT} ${COUNT} 0
    [ -z "$daemon" ] || { kill $daemon; wait $daemon || true; }
    [ ! -e /sys/module/nat_pass ] || /sbin/rmmod nat_pass
  `);
  return Number(said.trim().split(" ")[0]);
}
