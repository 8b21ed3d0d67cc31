import { execFileSync } from "node:child_process";
import { resolve } from "node:path";
import { expect, it } from "vitest";

const LIMIT_MS = 1_800_000;
const CHECKS = process.env.ISTHMUS_FULL === "1" ? ["sparse", "checkpatch", "coccicheck", "arm64", "dkms"] : ["sparse"];

/** Builds without warnings are part of what the other suites check. */
it.each(CHECKS)(
  "the kernel code passes %s",
  (check) => {
    const said = execFileSync(
      "nice",
      ["-n", "10", "sh", resolve(import.meta.dirname, "../../../kernel/check.sh"), check],
      {
        encoding: "utf8",
      },
    );
    expect(said).toMatch(new RegExp(`^${check}: `));
  },
  LIMIT_MS,
);
