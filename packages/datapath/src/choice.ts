import type { Logger } from "@isthmus/service";
import type { Capabilities, DataPath, OpenOptions } from "./data-path.ts";
import { EbpfDataPath } from "./ebpf/ebpf-data-path.ts";
import { KernelDataPath } from "./kernel/kernel-data-path.ts";
import type { SocketSplicer } from "./splice/socket-splicer.ts";
import { UserspaceDataPath } from "./userspace/userspace-data-path.ts";

/** What an operator may ask for: `auto` is `kernel` where the host has the module, else `userspace`. */
export const DRIVERS = ["auto", "kernel", "ebpf", "userspace"] as const;
export type Driver = (typeof DRIVERS)[number];

export interface ChoiceOptions {
  driver: Driver;
  logger: Logger;
  /** Of the stream endpoint, which the `userspace` driver shares. */
  splicer: SocketSplicer;
  /** Local addresses of the cells; none: all. */
  bind: readonly string[];
}

/** A data path that is open. */
export interface OpenedDataPath {
  dataPath: DataPath;
  capabilities: Capabilities;
  /** Why it is this one, in words for operators. */
  reason: string;
}

const CONFIGURED = "the configuration asks for it";

/** Opens a data path. @throws Error that says why this host cannot run the one that was asked for */
export async function openDataPath(options: ChoiceOptions, open: OpenOptions): Promise<OpenedDataPath> {
  switch (options.driver) {
    case "userspace":
      return opened(new UserspaceDataPath(options), open, CONFIGURED);
    case "ebpf":
      return required("the BPF data path", () => opened(new EbpfDataPath(options), open, CONFIGURED));
    case "kernel":
      return required(MODULE, () => opened(new KernelDataPath(options), open, CONFIGURED));
    case "auto":
      try {
        return await opened(new KernelDataPath(options), open, "the module ist_splice answers");
      } catch (error) {
        return opened(new UserspaceDataPath(options), open, cannot(MODULE, error));
      }
  }
}

const MODULE = "the kernel's data path";

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
