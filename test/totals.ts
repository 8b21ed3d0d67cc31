import { writeFileSync } from "node:fs";
import { relative } from "node:path";
import type { Reporter, SerializedError, TestModule } from "vitest/node";

/** How one run of vitest ended, as a file of JSON. */
export interface Totals {
  passed: number;
  failed: number;
  skipped: number;
  /** One for each test, set-up, file or stray promise that failed: where, and what was said. */
  failures: string[];
}

/**
 * Writes `Totals` to the file that ISTHMUS_TOTALS names, and says at the end why tests were left out, each reason once
 * with how many. vitest's own report has neither these reasons nor the errors of a `beforeAll`.
 */
export default class TotalsReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly SerializedError[]): void {
    const totals: Totals = { passed: 0, failed: 0, skipped: 0, failures: [] };
    const fail = (where: string, errors: readonly SerializedError[]) => {
      const said = errors.map(({ stack, message }) => stack ?? message).join("; ");
      const ours = said.split("\n").filter((line) => !line.includes("/node_modules/"));
      totals.failures.push(`${where}: ${ours.join("\n")}`);
    };
    const reasons = new Map<string, number>();
    for (const module of modules) {
      const file = relative(process.cwd(), module.moduleId);
      for (const part of [module, ...module.children.allSuites()]) {
        const where = part.type === "suite" ? `${file}: ${part.fullName}` : file;
        if (part.errors().length > 0) fail(where, part.errors());
      }
      for (const test of module.children.allTests()) {
        const result = test.result();
        if (result.state === "failed") fail(`${file}: ${test.fullName}`, result.errors);
        totals[result.state === "pending" ? "skipped" : result.state]++;
        if (result.state !== "skipped") continue;
        const reason = result.note || `no reason given: ${test.fullName}`;
        reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
      }
    }
    if (unhandled.length > 0) fail("outside of any test", unhandled);
    for (const [reason, count] of reasons) process.stdout.write(`skipped: ${count} tests, since ${reason}\n`);
    const file = process.env.ISTHMUS_TOTALS;
    if (file) writeFileSync(file, JSON.stringify(totals));
  }
}
