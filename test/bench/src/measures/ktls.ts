import { execFileSync } from "node:child_process";
import { join, resolve } from "node:path";
import { installedKernels, type Kernel, VirtualMachine } from "@isthmus/vm";
import { type Figure, figure } from "../figure.ts";
import { interleave } from "../rounds.ts";
import { pairedRatios } from "../statistics.ts";
import type { Measure } from "./measure.ts";

const ROOT = resolve(import.meta.dirname, "../../../..");
const PROGRAM = join(ROOT, "test/bench/c/ktls.c");
/** Of the Node that the repository pins, OpenSSL's among them: no package of headers is needed. */
const HEADERS = join(ROOT, `node_modules/node-linux-${process.arch}/include/node`);
const MEBIBYTES = 8;
const ROUNDS = 5;
/** The guest's clock goes on by so much with each instruction. */
const INSTRUCTION_NS = 2;

/** Words of the program, in those of the table. */
const WAYS = {
  splice: "clear, splice(2)",
  copy: "clear, recv and send",
  seal: "sealed in user space",
  "ktls-seal": "sealed by kTLS, recv and send",
  "ktls-seal-splice": "sealed by kTLS, splice(2)",
  open: "opened in user space",
  "ktls-open": "opened by kTLS, recv and send",
  "ktls-open-splice": "opened by kTLS, splice(2)",
};
type Way = keyof typeof WAYS;

/** What of kTLS takes whose place. */
const COMPARED: readonly (readonly [Way, Way])[] = [
  ["ktls-seal", "seal"],
  ["ktls-seal-splice", "seal"],
  ["ktls-open", "open"],
  ["ktls-open-splice", "open"],
];

export const ktls: Measure = {
  name: "ktls",
  title: "Sealing in the kernel (kTLS) and in user space",
  method: `A program in C moves ${MEBIBYTES} MiB from one TCP connection to another as a daemon does, in a virtual machine \
with one CPU whose clock counts instructions (${INSTRUCTION_NS} ns each): those between reading the one and having written the other, \
per byte, without the ends'. Sealed: AES-256-GCM in records of 16 KiB in the shape of TLS 1.3, by Debian's OpenSSL in user space, by \
the kernel's AES-NI code under kTLS. QEMU's CPU has AES-NI, PCLMULQDQ and AVX2, no VAES; an instruction of AES counts as one, whatever it costs.`,
  async run(say, _draw, pace) {
    const kernels = installedKernels();
    if (kernels.length === 0)
      throw new Error("no kernel with image and headers (linux-image-amd64, linux-headers-amd64)");
    const figures: Figure[] = [];
    for (const kernel of kernels) figures.push(...(await onKernel(kernel, pace(ROUNDS), say)));
    return figures;
  },
};

async function onKernel(kernel: Kernel, rounds: number, say: (progress: string) => void): Promise<Figure[]> {
  await using vm = await VirtualMachine.boot({ kernel, countInstructions: true });
  const program = join(vm.share, "ktls");
  const flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-DOPENSSL_LINUX", "-isystem", HEADERS];
  execFileSync("gcc", [...flags, PROGRAM, "-l:libcrypto.so.3", "-o", program]);
  await vm.check("/sbin/modprobe tls && /sbin/modprobe aesni_intel");
  const ways = Object.keys(WAYS) as Way[];
  const results = await interleave(
    ways,
    async (way, round) => {
      const [moving] = (await vm.check(`${vm.guestShare}/ktls ${way} ${MEBIBYTES}`)).trim().split(" ").map(Number);
      const perByte = moving! / INSTRUCTION_NS / (MEBIBYTES * 1024 * 1024);
      say(`Linux ${kernel.version}, round ${round}: ${WAYS[way]}, ${perByte.toFixed(3)} instructions per byte`);
      return perByte;
    },
    rounds,
  );
  const linux = `Linux ${kernel.version.split(".").slice(0, 2).join(".")}`;
  return [
    ...ways.map((way) => figure(`${linux}: ${WAYS[way]}`, "instructions per byte", results.get(way)!)),
    ...COMPARED.map(([way, other]) =>
      figure(`${linux}: ${WAYS[way]} / ${WAYS[other]}`, "ratio", pairedRatios(results.get(way)!, results.get(other)!)),
    ),
  ];
}
