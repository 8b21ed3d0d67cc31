import { join } from "node:path";
import { expect, it } from "vitest";
import { installedKernels, VirtualMachine } from "../src/index.ts";

const PROGRAMS = join(import.meta.dirname, "../../../packages/native/build/splice.bpf.o");

it.each(installedKernels())("the verifier of $version takes the BPF programs of the splice", async (kernel) => {
  await using machine = await VirtualMachine.boot({ kernel });
  await machine.check("mkdir -p /tmp/bpf && mount -t bpf bpf /tmp/bpf");
  const { status, output } = await machine.run(`bpftool prog loadall ${PROGRAMS} /tmp/bpf`);
  expect({ status, output }).toEqual({ status: 0, output: "" });
  expect(await machine.check("ls /tmp/bpf")).toContain("ist_splice");
  expect(machine.complaints()).toEqual([]);
});
