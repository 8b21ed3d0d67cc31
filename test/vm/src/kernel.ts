import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { VmError } from "./vm-error.ts";

const DEBUG_TREE = resolve(import.meta.dirname, "../build/debug/linux-source-6.1");
const MODULES = "/lib/modules";

/** A kernel and what it takes to build modules for it. */
export interface Kernel {
  /** As `uname -r` says in it. */
  readonly version: string;
  readonly image: string;
  /** Its headers, or its whole tree. */
  readonly build: string;
  /** That of debug/build.sh: some ten times slower, with all that a guest needs built in, and no modules of its own. */
  readonly isDebug?: boolean;
}

/** Kernels with image, modules and headers, the oldest first. */
export function installedKernels(): Kernel[] {
  if (!existsSync(MODULES)) return [];
  return readdirSync(MODULES)
    .filter((version) => existsSync(`/boot/vmlinuz-${version}`) && existsSync(`${MODULES}/${version}/build/Makefile`))
    .sort((a, b) => a.localeCompare(b, "en", { numeric: true }))
    .map((version) => ({ version, image: `/boot/vmlinuz-${version}`, build: `${MODULES}/${version}/build` }));
}

/** The kernel of debug/build.sh. @throws VmError when it was not built */
export function debugKernel(): Kernel {
  const release = join(DEBUG_TREE, "include/config/kernel.release");
  const image = join(DEBUG_TREE, "arch/x86/boot/bzImage");
  if (!existsSync(image)) throw new VmError("there is no debug kernel: run test/vm/debug/build.sh");
  return { version: readFileSync(release, "utf8").trim(), image, build: DEBUG_TREE, isDebug: true };
}

/**
 * What whole suites run on: the oldest kernel that is installed, or each one with ISTHMUS_FULL=1, or the debug kernel alone
 * with ISTHMUS_KERNEL=debug.
 */
export function kernelsUnderTest(): Kernel[] {
  if (process.env.ISTHMUS_KERNEL === "debug") return [debugKernel()];
  return process.env.ISTHMUS_FULL === "1" ? installedKernels() : installedKernels().slice(0, 1);
}

/** Files of modules and of all that they need, in the order in which they are to be loaded. */
export function moduleFiles({ version, isDebug = false }: Kernel, names: readonly string[]): string[] {
  if (isDebug) return [];
  const files = names.flatMap((name) =>
    run("modprobe", ["-S", version, "--show-depends", name])
      .toString()
      .split("\n")
      .filter((line) => line.startsWith("insmod "))
      .map((line) => line.split(" ")[1]!),
  );
  return [...new Set(files)];
}

/** A module's bytes: newer kernels come with compressed ones. */
export function readModule(file: string): Buffer {
  return file.endsWith(".xz") ? run("xz", ["-dc", file]) : readFileSync(file);
}

function run(command: string, args: string[]): Buffer {
  try {
    return execFileSync(command, args, { maxBuffer: 64 * 1024 * 1024, env: { ...process.env, PATH: rootPath() } });
  } catch (error) {
    throw new VmError(`${command} ${args.join(" ")} failed`, { cause: error });
  }
}

function rootPath(): string {
  return `${process.env.PATH ?? ""}:/usr/sbin:/sbin`;
}
