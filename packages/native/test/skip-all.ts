import { beforeEach } from "vitest";

/** Leaves all tests of a suite out where there is a reason, and says it. */
export function skipAll(reason: string | undefined): void {
  beforeEach(({ skip }) => skip(reason !== undefined, reason));
}
