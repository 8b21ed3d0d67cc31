import { appProgram, NODE } from "@isthmus/e2e";
import { ORDINARY_UID } from "@isthmus/lab";
import { buildModule, installedKernels, VirtualMachine } from "@isthmus/vm";
import { figure } from "../figure.ts";
import { SMALL_RELAY } from "../relay/site.ts";
import type { Measure } from "./measure.ts";

/** Eight processes of Node start, one after the other. */
const RESIDENTS_MS = 1_800_000;

export const relayMemory: Measure = {
  name: "relay-memory",
  title: "Programs of a small relay",
  method: `An IST on the kernel's data path and a daemon, both logged in, in a virtual machine with 1 CPU and 256 MB. The ISB \
that they log in to has ended when memory is read; no time is measured.`,
  async run(say) {
    const [kernel] = installedKernels();
    if (!kernel) throw new Error("no kernel with image and headers (linux-image-amd64, linux-headers-amd64)");
    await using vm = await VirtualMachine.boot({ kernel, ...SMALL_RELAY, countInstructions: true });
    await vm.load(buildModule("splice", kernel));
    say(`Linux ${kernel.version} is up`);
    const output = await vm.check(residents(), RESIDENTS_MS);
    const [ist, daemon, available] = output
      .trim()
      .split("\n")
      .slice(-3)
      .map((kibibytes) => Number(kibibytes) / 1024);
    return [
      figure("resident memory of the IST", "MiB", [ist!]),
      figure("resident memory of a daemon", "MiB", [daemon!]),
      figure("memory that is still available beside both", "MiB", [available!], { atLeast: 1 }),
    ];
  },
};

/** Starts both, and writes their memory and what is left, in KiB. */
function residents(): string {
  const node = [NODE, ...process.execArgv].join(" ");
  return `set -e
    export HOME=/tmp
    mkdir -p /tmp/fit/run
    chown -R ${ORDINARY_UID} /tmp/fit/run
    ready() { until grep -q '"msg":"ready"' $1; do kill -0 $2 || { cat $1; exit 1; }; sleep 0.2; done; }
    # On a busy host the ISB may not answer in time.
    invite() {
      until made=$(${node} ${appProgram("isb")} --data /tmp/fit/isb $@ --json); do sleep 1; done
      echo "$made" | sed 's/.*"invite":"\\([^"]*\\)".*/\\1/'
    }
    ${node} ${appProgram("isb")} --data /tmp/fit/isb >/tmp/fit/isb.log 2>&1 & isb=$!
    ready /tmp/fit/isb.log $isb
    relay=$(invite invite-ist)
    login=$(invite invite alice)
    ${node} ${appProgram("ist")} --data /tmp/fit/ist join "$relay"
    ${node} ${appProgram("ist")} --data /tmp/fit/ist --name relay --data-path kernel >/tmp/fit/ist.log 2>&1 & ist=$!
    ready /tmp/fit/ist.log $ist
    user="setpriv --reuid ${ORDINARY_UID} --regid ${ORDINARY_UID} --clear-groups"
    $user ${node} ${appProgram("daemon")} --state /tmp/fit/run/state --socket /tmp/fit/run/s >/tmp/fit/daemon.log 2>&1 &
    daemon=$!
    ready /tmp/fit/daemon.log $daemon
    $user ${node} ${appProgram("cli")} --socket /tmp/fit/run/s login "$login" --device small
    kill $isb
    wait $isb || true
    sleep 5
    for process in $ist $daemon; do awk '/^VmRSS/ { print $2 }' /proc/$process/status; done
    awk '/^MemAvailable/ { print $2 }' /proc/meminfo
    kill $ist $daemon
    wait`;
}
