import type { Program } from "@isthmus/lab";

/** How long a path may take to be there, on a machine that has much else to do. */
export const READY_MS = 60_000;

/** A way from home A to a service of home B. */
export interface Path {
  name: string;
  /** Where a program in home A finds the service. */
  host: string;
  port: number;
  /** Processes through which the bytes pass, without those at the two ends. */
  programs: readonly Program[];
}

/** Their ids; a program's own children count with it. */
export function pidsOf({ programs }: Path): number[] {
  return programs.map(({ pid }) => pid);
}
