/** The build step of this package's C: what a first use would do otherwise. A machine without a compiler makes no labs. */
import { delayProgram } from "./native.ts";
import { isInstalled } from "./tools.ts";

if (isInstalled("gcc")) await delayProgram();
else console.log("no gcc: the delay line is compiled at its first use");
