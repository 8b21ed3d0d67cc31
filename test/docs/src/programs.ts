import { Command } from "commander";

/** Each main module runs its program as its last step. */
const MAIN_MODULES = [
  () => import("../../../apps/cli/src/main.ts"),
  () => import("../../../apps/daemon/src/main.ts"),
  () => import("../../../apps/isb/src/main.ts"),
  () => import("../../../apps/ist/src/main.ts"),
  () => import("../../../apps/natbinder/src/main.ts"),
];

/** The programs of all apps as their main modules describe them, without running them. */
export async function loadPrograms(): Promise<Command[]> {
  const programs: Command[] = [];
  const { parseAsync } = Command.prototype;
  Command.prototype.parseAsync = async function (this: Command) {
    programs.push(this);
    return this;
  };
  try {
    for (const load of MAIN_MODULES) await load();
  } finally {
    Command.prototype.parseAsync = parseAsync;
  }
  return programs;
}
