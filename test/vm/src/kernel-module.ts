import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Kernel } from "./kernel.ts";
import { VmError } from "./vm-error.ts";

const KERNEL_FOLDER = resolve(import.meta.dirname, "../../../kernel");

/** One of the repository's own modules, built for a kernel. */
export interface KernelModule {
  readonly name: string;
  readonly file: string;
  /** Everything that the compiler said. */
  readonly log: string;
}

/** What the modules of the folders in kernel/ are called. */
const NAMES = { splice: "ist_splice", natpass: "nat_pass" };

/** @param folderName in kernel/ @throws VmError with what the compiler said */
export function buildModule(folderName: keyof typeof NAMES, kernel: Kernel): KernelModule {
  const folder = join(KERNEL_FOLDER, folderName);
  mkdirSync(join(folder, "build"), { recursive: true });
  // Several processes may want it at once.
  const make = ["flock", join(folder, "build/lock"), "make", "--no-print-directory", "-C", folder];
  const { status, stdout, stderr } = spawnSync(
    "nice",
    ["-n", "10", ...make, `KVERSION=${kernel.version}`, `KDIR=${kernel.build}`],
    { encoding: "utf8", maxBuffer: 64 * 1024 * 1024 },
  );
  const log = stdout + stderr;
  if (status !== 0) throw new VmError(`kernel/${folderName} does not build for ${kernel.version}:\n${log}`);
  const name = NAMES[folderName];
  return { name, file: join(folder, "build", kernel.version, folderName, `${name}.ko`), log };
}
