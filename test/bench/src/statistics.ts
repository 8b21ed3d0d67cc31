/** Share of resampled medians that lie within an interval. */
const CONFIDENCE = 0.95;
const RESAMPLES = 10_000;
/** Any number: the same figures give the same interval at every run. */
const SEED = 0x15_74_b0_5e;

/** @throws RangeError when there is none */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** Between the two nearest values where none is at that place. @throws RangeError when there is none */
export function quantile(values: readonly number[], share: number): number {
  if (values.length === 0) throw new RangeError("no values");
  const sorted = [...values].sort((a, b) => a - b);
  const place = (sorted.length - 1) * share;
  const below = sorted[Math.floor(place)]!;
  const above = sorted[Math.ceil(place)]!;
  return below + (above - below) * (place - Math.floor(place));
}

export interface Interval {
  low: number;
  high: number;
}

/** Where the median lies, by the percentile bootstrap: medians of values that were drawn again and again from these. */
export function medianInterval(values: readonly number[], resamples = RESAMPLES): Interval {
  const random = createRandom(SEED);
  const medians = Array.from({ length: resamples }, () =>
    median(Array.from(values, () => values[Math.floor(random() * values.length)]!)),
  );
  const tail = (1 - CONFIDENCE) / 2;
  return { low: quantile(medians, tail), high: quantile(medians, 1 - tail) };
}

/**
 * One ratio for each round: what both sides of a round shared (other work on the machine, its clock) falls out.
 * @throws RangeError when the rounds are not the same
 */
export function pairedRatios(above: readonly number[], below: readonly number[]): number[] {
  return paired(above, below, (a, b) => a / b);
}

/** See {@link pairedRatios}. */
export function pairedDifferences(from: readonly number[], less: readonly number[]): number[] {
  return paired(from, less, (a, b) => a - b);
}

function paired(a: readonly number[], b: readonly number[], join: (a: number, b: number) => number): number[] {
  if (a.length !== b.length) throw new RangeError(`${a.length} rounds against ${b.length}`);
  return a.map((value, round) => join(value, b[round]!));
}

/** Mulberry32: numbers of 0 to below 1 that are the same for the same seed. */
function createRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d_2b_79_f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
