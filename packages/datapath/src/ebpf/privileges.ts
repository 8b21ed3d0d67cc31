import { readFileSync } from "node:fs";

/** Their bits (linux/capability.h). */
const NEEDED = { CAP_NET_ADMIN: 12n, CAP_NET_RAW: 13n, CAP_SYS_ADMIN: 21n } as const;

/**
 * Which of the needed privileges a process has not. CAP_BPF is not enough: without CAP_SYS_ADMIN programs could be attached,
 * but the next process could not take over their maps. Pure.
 * @param status its /proc/PID/status
 */
export function missingPrivileges(status: string): string[] {
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? "0"}`);
  return Object.entries(NEEDED).flatMap(([name, bit]) => (effective & (1n << bit) ? [] : [name]));
}

/** @throws Error that says what this process lacks */
export function checkPrivileges(): void {
  const missing = missingPrivileges(readFileSync("/proc/self/status", "utf8"));
  if (missing.length > 0) throw new Error(`this process lacks ${missing.join(", ")}`);
}
