import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { VmError } from "./vm-error.ts";

const MODULES = "/lib/modules";

/** A kernel that Debian installed: its image, its modules and the headers to build others for it. */
export interface Kernel {
  /** As `uname -r` says in it. */
  readonly version: string;
  readonly image: string;
}

/** Kernels with image, modules and headers, the oldest first. */
export function installedKernels(): Kernel[] {
  if (!existsSync(MODULES)) return [];
  return readdirSync(MODULES)
    .filter((version) => existsSync(`/boot/vmlinuz-${version}`) && existsSync(`${MODULES}/${version}/build/Makefile`))
    .sort((a, b) => a.localeCompare(b, "en", { numeric: true }))
    .map((version) => ({ version, image: `/boot/vmlinuz-${version}` }));
}

/** Files of modules and of all that they need, in the order in which they are to be loaded. */
export function moduleFiles({ version }: Kernel, names: readonly string[]): string[] {
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
