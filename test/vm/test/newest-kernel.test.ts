import { installedKernels, type KernelModule, type VirtualMachine } from "@isthmus/vm";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { bootRelay, type RelayHosts, SOURCES } from "./relay-hosts.ts";

const newest = installedKernels().at(-1)!;

describe(`ist_splice on ${newest?.version}`, () => {
  let module: KernelModule;
  let vm: VirtualMachine;
  let hosts: RelayHosts;

  beforeAll(async () => {
    ({ module, vm, hosts } = await bootRelay(newest));
  });

  afterAll(async () => {
    await vm?.stop();
  });

  it("is another kernel than the one of all the other tests, and compiles without a warning", () => {
    expect(installedKernels().length).toBeGreaterThan(1);
    expect(module.log.split("\n").filter((line) => /warning|error/i.test(line))).toEqual([]);
  });

  it("passes TCP and UDP, of one family and of both, and is unloaded", async () => {
    await hosts.istctl(`new 1 ${SOURCES} cell 0 passive 20000 20001 cell 1 pure 6666 5555 5555 6666`);
    await hosts.transfer([20_000, 20_001], { bytes: 500_000 });
    await hosts.transfer([6666, 5555], { from: [5555, 6666], bytes: 500_000 });
    await hosts.transfer([20_000, 20_001], { families: [4, 6], bytes: 500_000 });
    const [atA, atB] = await hosts.datagrams([20_000, 20_001], 3000, { families: [6, 6] });
    expect(Math.min(atA, atB)).toBeGreaterThanOrEqual(10);
    expect(await hosts.istctl("allocs")).toContain("cells=2");
    expect(await hosts.checksumErrors()).toBe(0);
    expect(await hosts.unload()).toEqual([]);
  });
});
