import type { Figure } from "../figure.ts";
import type { Plot } from "../plot.ts";

/** One thing that `npm run bench` measures, in a laboratory of its own. */
export interface Measure {
  name: string;
  title: string;
  /** How it is measured, for the reader of its table. */
  method: string;
  run(say: (progress: string) => void, draw: (plot: Plot) => void): Promise<Figure[]>;
}
