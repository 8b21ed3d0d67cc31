/** The build step of this package's C: what a first use would do otherwise. */
import { delayProgram } from "./native.ts";

await delayProgram();
