import { IsthmusError, LIMITS, type Side } from "@isthmus/protocol";

/** The cells of an allocation at rest: one per opener. */
export const REST_CELLS: readonly number[] = [0, 1];

/**
 * The numbers of further cells for one side's opens (even for side 0, odd for side 1): the lowest free ones, fewer than
 * asked for when there are no more. Pure.
 * @throws IsthmusError `cell-limit` when there is none
 */
export function cellsToAdd(present: Iterable<number>, side: Side, count: number): number[] {
  const taken = new Set(present);
  const added: number[] = [];
  for (let cell: number = side; cell < LIMITS.cellsPerAllocation && added.length < count; cell += 2) {
    if (!taken.has(cell)) added.push(cell);
  }
  if (added.length === 0) throw new IsthmusError("cell-limit");
  return added;
}

/**
 * What remains when a side gives cells of its opens back; one of them always stays. Numbers that are not there are
 * ignored, as after a repeated request. Pure.
 * @throws IsthmusError `bad-request` for a cell of the other side's opens
 */
export function cellsToKeep(present: Iterable<number>, side: Side, given: readonly number[]): number[] {
  if (given.some((cell) => cell % 2 !== side)) {
    throw new IsthmusError("bad-request", "a side gives back cells of its own opens only");
  }
  const all = [...present].sort((a, b) => a - b);
  const kept = all.filter((cell) => !given.includes(cell));
  if (kept.some((cell) => cell % 2 === side)) return kept;
  const last = all.find((cell) => cell % 2 === side);
  return last === undefined ? kept : [...kept, last].sort((a, b) => a - b);
}
