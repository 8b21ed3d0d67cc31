/** Fewer do not give an interval that means anything. */
export const ROUNDS = 8;
/** Where time is short. */
export const SHORT_ROUNDS = 5;

/**
 * Measures several things in turn, again and again, so that what else the machine does meets all of them alike. The
 * order turns from round to round; a round ahead of those that count warms everything up.
 * @returns for each thing its rounds
 */
export async function interleave<T, R>(
  things: readonly T[],
  measure: (thing: T, round: number) => Promise<R>,
  rounds = ROUNDS,
): Promise<Map<T, R[]>> {
  const results = new Map<T, R[]>(things.map((thing) => [thing, []]));
  for (let round = -1; round < rounds; round++) {
    for (let place = 0; place < things.length; place++) {
      const thing = things[(place + round + 1) % things.length]!;
      const result = await measure(thing, round);
      if (round >= 0) results.get(thing)!.push(result);
    }
  }
  return results;
}
