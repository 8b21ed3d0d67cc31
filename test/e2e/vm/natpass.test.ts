import { join, resolve } from "node:path";
import { until } from "@isthmus/e2e";
import { buildModule, GuestNode, installedKernels, VmError } from "@isthmus/vm";
import { describe, expect, it } from "vitest";
import { BINDER_SOURCE } from "../test/fixtures/binder.ts";
import { natbinderCases } from "../test/fixtures/natbinder-cases.ts";
import { rtorrentCase, transmissionCase } from "../test/fixtures/use-cases.ts";

const ROOT = resolve(import.meta.dirname, "../../..");
/** Long enough for a gateway that is asked from an emulated machine on a busy host. */
const WAIT_MS = 2000;
/** What the measurement of it may be off. */
const LATE_MS = 1500;
const BINDS_PER_SECOND = 50;
/** So many that each may wait for its answer. */
const PROCESSES = 32;
const IS_FULL = process.env.ISTHMUS_FULL === "1";
const STORM_SECONDS = IS_FULL ? 60 : 5;
/** Each takes its time to start there. */
const RTORRENTS = IS_FULL ? 5 : 2;
/** Five seconds of a machine that is not emulated. */
const SETTLED_MS = 40_000;

let machine: GuestNode;

describe("with the kernel module", () => {
  const scene = natbinderCases({
    systemWide: "module",
    waits: true,
    waitMs: WAIT_MS,
    seesAll: true,
    findsOld: false,
    countsSockets: true,
    isShort: !IS_FULL,
    replaceAlice: async (lab) => {
      const [kernel] = installedKernels();
      if (!kernel) throw new VmError("no kernel with headers (Debian packages linux-image-amd64, linux-headers-amd64)");
      const module = buildModule("natpass", kernel);
      machine = await GuestNode.replace(lab, "alice", { kernel });
      await machine.machine.load(module);
      machine.machine.compile(join(ROOT, "kernel/natpass/test/storm.c"), BINDER_SOURCE);
      // What is shared is root's.
      await machine.script(`cp ${machine.machine.guestShare}/binder ${machine.folder}`);
      return join(machine.folder, "binder");
    },
  });

  /** Of those that the gateway has. */
  async function portsOf(host: string): Promise<number[]> {
    const { ipv4 } = scene.lab.node(host);
    const entries = (await scene.entries()).map((entry) => entry.split(" "));
    return entries.filter(([, , holder]) => holder === ipv4).map(([, port]) => Number(port));
  }

  it("says so, and 'natbinder run' starts its program and does nothing else", async () => {
    expect((await scene.mine.status()).systemWide).toEqual({ source: "module" });
    const [command = "", ...args] = scene.mine.runCommand;
    const status = await machine.read(command, [...args, "cat", "/proc/self/status"]);
    expect(status).toMatch(/^Seccomp:\t0$/m);
    expect(status).toMatch(/^NoNewPrivs:\t0$/m);
  });

  rtorrentCase(scene, RTORRENTS);
  transmissionCase(scene);

  it("keeps up with fifty binds a second, and is soon at rest", async () => {
    const storm = `${machine.machine.guestShare}/storm`;
    const said = await machine.script(`${storm} ${PROCESSES} ${STORM_SECONDS} 21000 21999 ${BINDS_PER_SECOND}`);
    const [, done, , longest] = /done (\d+) taken (\d+) longest ([\d.]+)/.exec(said)!.map(Number);
    expect(done).toBeGreaterThan(PROCESSES);
    expect(longest).toBeLessThan(WAIT_MS + LATE_MS);
    await until("nothing is left", async () => (await portsOf("alice")).length === 0 || undefined, SETTLED_MS);
    await scene.mine.portsAre([]);
  });

  it("whose module is unloaded says so, and looks at the list of sockets instead", async () => {
    const one = scene.binder();
    const socket = await one.take("tcp4", 12_300);
    await one.listen(socket);
    await scene.mine.portsAre(["tcp 12300"]);
    await machine.script("/sbin/rmmod nat_pass");
    await scene.mine.program.waitForOutput(/the module nat_pass was unloaded/, SETTLED_MS);
    const { result, milliseconds } = await one.bind(await one.open("tcp4"), 12_301);
    expect(result).toBe("ok");
    expect(milliseconds).toBeLessThan(WAIT_MS / 2);
    await until("the list", async () => (await scene.mine.status()).systemWide?.source === "sockets" || undefined);
    await scene.mine.portsAre(["tcp 12300"]);
    expect(machine.machine.complaints()).toEqual([]);
  });
});
