import { type Interval, median, medianInterval } from "./statistics.ts";

/** What a median should be. */
export type Goal = { atLeast: number } | { atMost: number };

/**
 * `met`: the median is as it should be. `unclear`: it is not, but noise could hide that it is: its interval reaches the
 * goal. `missed`: nor does the interval.
 */
type Verdict = "met" | "unclear" | "missed";

/** One measured quantity, with what was measured in each round. */
export interface Figure {
  what: string;
  unit: string;
  median: number;
  /** Of the median; nothing where there was one round. */
  interval?: Interval;
  goal?: Goal;
  verdict?: Verdict;
  rounds: number[];
  /** It is a point of a plot, which tables leave out. */
  isDetail?: boolean;
}

export function figure(what: string, unit: string, rounds: readonly number[], goal?: Goal): Figure {
  const interval = rounds.length > 1 ? medianInterval(rounds) : undefined;
  const middle = median(rounds);
  return {
    what,
    unit,
    median: middle,
    ...(interval && { interval }),
    ...(goal && { goal, verdict: judge(middle, interval, goal) }),
    rounds: [...rounds],
  };
}

function judge(middle: number, interval: Interval | undefined, goal: Goal): Verdict {
  const reaches = (value: number): boolean => ("atLeast" in goal ? value >= goal.atLeast : value <= goal.atMost);
  if (reaches(middle)) return "met";
  if (!interval) return "missed";
  return reaches("atLeast" in goal ? interval.high : interval.low) ? "unclear" : "missed";
}
