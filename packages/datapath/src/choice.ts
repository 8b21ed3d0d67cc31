import type { Logger } from "@isthmus/service";
import type { Capabilities, DataPath, OpenOptions } from "./data-path.ts";
import { EbpfDataPath } from "./ebpf/ebpf-data-path.ts";
import { removeLeftovers } from "./ebpf/leftovers.ts";
import { HeldLockError } from "./host-lock.ts";
import { KernelDataPath } from "./kernel/kernel-data-path.ts";
import type { SocketSplicer } from "./splice/socket-splicer.ts";
import { UserspaceDataPath } from "./userspace/userspace-data-path.ts";

/** What an operator may ask for: `auto` is the first of the others that the host can run. */
export const DRIVERS = ["auto", "kernel", "ebpf", "userspace"] as const;
export type Driver = (typeof DRIVERS)[number];

export interface ChoiceOptions {
  driver: Driver;
  logger: Logger;
  /** Of the stream endpoint, which the `userspace` driver shares. */
  splicer: SocketSplicer;
  /** Local addresses of the cells; none: all. */
  bind: readonly string[];
  /** How many splices there may be at once in the tables of the BPF programs. @default 524,288 */
  mostSplices?: number;
}

/** A data path that is open. */
export interface OpenedDataPath {
  dataPath: DataPath;
  capabilities: Capabilities;
  /** Why it is this one, in words for operators. */
  reason: string;
}

const MODULE = "the kernel's data path";
const PROGRAMS = "the BPF data path";
const CONFIGURED = "the configuration asks for it";

/**
 * Opens a data path. @throws Error that says why this host cannot run the one that was asked for; with `auto`, only that
 * another IST runs on this host
 */
export async function openDataPath(options: ChoiceOptions, open: OpenOptions): Promise<OpenedDataPath> {
  switch (options.driver) {
    case "userspace":
      return alone(options, new UserspaceDataPath(options), open, CONFIGURED);
    case "ebpf":
      return required(PROGRAMS, () => opened(new EbpfDataPath(options), open, CONFIGURED));
    case "kernel":
      return required(MODULE, () => alone(options, new KernelDataPath(options), open, CONFIGURED));
    case "auto":
      return best(options, open);
  }
}

async function best(options: ChoiceOptions, open: OpenOptions): Promise<OpenedDataPath> {
  const refusals: string[] = [];
  const refuse = (name: string, error: unknown): void => {
    // Both would take each other's packets, whatever moves the bytes of this one.
    if (error instanceof HeldLockError) throw new Error(cannot(name, error), { cause: error });
    refusals.push(cannot(name, error));
  };
  try {
    return await alone(options, new KernelDataPath(options), open, "the module ist_splice answers");
  } catch (error) {
    refuse(MODULE, error);
  }
  try {
    return await opened(new EbpfDataPath(options), open, refusals.join("; "));
  } catch (error) {
    refuse(PROGRAMS, error);
  }
  return alone(options, new UserspaceDataPath(options), open, refusals.join("; "));
}

/** Without the BPF programs that an earlier life of this IST may have left. */
async function alone(
  { logger }: ChoiceOptions,
  dataPath: DataPath,
  open: OpenOptions,
  reason: string,
): Promise<OpenedDataPath> {
  const result = await opened(dataPath, open, reason);
  await removeLeftovers(logger);
  return result;
}

async function opened(dataPath: DataPath, open: OpenOptions, reason: string): Promise<OpenedDataPath> {
  return { dataPath, capabilities: await dataPath.open(open), reason };
}

async function required(name: string, result: () => Promise<OpenedDataPath>): Promise<OpenedDataPath> {
  try {
    return await result();
  } catch (error) {
    throw new Error(cannot(name, error), { cause: error });
  }
}

function cannot(name: string, error: unknown): string {
  return `${name} cannot be used: ${(error as Error).message}`;
}
