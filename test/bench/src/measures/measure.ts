import type { Figure } from "../figure.ts";

/** One thing that `npm run bench` measures, in a laboratory of its own. */
export interface Measure {
  name: string;
  title: string;
  /** How it is measured, for the reader of its table. */
  method: string;
  run(say: (progress: string) => void): Promise<Figure[]>;
}
