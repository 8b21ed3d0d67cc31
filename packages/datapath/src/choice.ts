import type { Logger } from "@isthmus/service";
import type { Capabilities, DataPath, OpenOptions } from "./data-path.ts";
import { KernelDataPath } from "./kernel/kernel-data-path.ts";
import type { SocketSplicer } from "./splice/socket-splicer.ts";
import { UserspaceDataPath } from "./userspace/userspace-data-path.ts";

/** What an operator may ask for: `auto` is the best that the host can run. */
export const DRIVERS = ["auto", "kernel", "userspace"] as const;
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

/** Opens a data path. @throws Error that says why this host cannot run the one that was asked for */
export async function openDataPath(
  { driver, logger, splicer, bind }: ChoiceOptions,
  open: OpenOptions,
): Promise<OpenedDataPath> {
  let reason = "the configuration asks for it";
  if (driver !== "userspace") {
    const dataPath = new KernelDataPath({ logger, bind });
    try {
      const capabilities = await dataPath.open(open);
      return { dataPath, capabilities, reason: driver === "auto" ? "the module ist_splice answers" : reason };
    } catch (error) {
      const problem = (error as Error).message;
      if (driver === "kernel") throw new Error(`the kernel's data path cannot be used: ${problem}`, { cause: error });
      reason = `the kernel's data path cannot be used: ${problem}`;
    }
  }
  const dataPath = new UserspaceDataPath({ logger, splicer, bind });
  return { dataPath, capabilities: await dataPath.open(open), reason };
}
