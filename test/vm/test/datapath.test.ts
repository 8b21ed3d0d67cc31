import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { buildModule, installedKernels, VirtualMachine } from "../src/index.ts";

/** Some minutes; on a host that does much else, many. */
const SUITES_MS = 1_800_000;

/**
 * The kernel's driver of the data path against the module itself: the compliance suite, and what only this driver does.
 * They run in the guest, with the packages as they were built.
 */
it.each(installedKernels().slice(0, 1))(
  "the data path's suites pass on $version",
  async (kernel) => {
    const { file } = buildModule("splice", kernel);
    await using machine = await VirtualMachine.boot({ kernel });
    copyFileSync(file, join(machine.share, "module.ko"));
    const module = `${machine.guestShare}/module.ko`;
    await machine.check(`modprobe -a nf_conntrack nf_defrag_ipv6 && ip link set lo up && insmod ${module}`);
    const root = join(import.meta.dirname, "../../..");
    const { status, output } = await machine.run(
      `cd ${root} && export HOME=/tmp ISTHMUS_MODULE=${module} PATH=$PWD/node_modules/.bin:$PATH
       node node_modules/.bin/vitest run --config packages/datapath/test/vm/vitest.config.ts --reporter=verbose`,
      SUITES_MS,
    );
    expect(status, output).toBe(0);
    expect(await machine.check("nstat -asz TcpInCsumErrors | awk '/TcpInCsumErrors/ { print $2 }'")).toBe("0\n");
    expect(machine.complaints()).toEqual([]);
  },
  SUITES_MS + 300_000,
);
