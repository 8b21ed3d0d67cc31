export const NS_PER_MS = 1e6;

/** The clock of the maps, in milliseconds. */
export function now(): number {
  return Number(process.hrtime.bigint()) / NS_PER_MS;
}
