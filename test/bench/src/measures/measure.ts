import type { Figure } from "../figure.ts";
import type { Plot } from "../plot.ts";

/** How many rounds to measure: as many as are asked for, or fewer where time is short. */
export type Pace = (full: number, short?: number) => number;

/** One thing that `npm run bench` measures, in a laboratory of its own. */
export interface Measure {
  name: string;
  title: string;
  /** How it is measured, for the reader of its table. */
  method: string;
  run(say: (progress: string) => void, draw: (plot: Plot) => void, pace: Pace): Promise<Figure[]>;
}
