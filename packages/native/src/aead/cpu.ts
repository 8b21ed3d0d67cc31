import { readFileSync } from "node:fs";

let fastAes: boolean | undefined;

/**
 * Whether the CPU has AES instructions. Without them AES-256-GCM is several times slower than ChaCha20-Poly1305. False
 * where that cannot be told.
 */
export function hasFastAes(): boolean {
  fastAes ??= detect();
  return fastAes;
}

function detect(): boolean {
  try {
    return listsAes(readFileSync("/proc/cpuinfo", "latin1"));
  } catch {
    return false;
  }
}

/** The lists are `flags` on x86 and `Features` on arm64. */
export function listsAes(cpuinfo: string): boolean {
  return /^(flags|Features)\s*:.*\baes\b/m.test(cpuinfo);
}
