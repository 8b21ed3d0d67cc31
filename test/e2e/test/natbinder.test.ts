import { Natbinder } from "@isthmus/e2e";
import { describe, expect, it } from "vitest";
import { natbinderCases } from "./fixtures/natbinder-cases.ts";

describe("under natbinder run", () => {
  const scene = natbinderCases({ waits: true, seesAll: false, findsOld: false });

  it("natbinder runs once on a host", async () => {
    const second = new Natbinder(scene.lab.node("alice"), { state: `${scene.mine.state}-second` });
    await expect(second.start()).rejects.toThrow("ended with status 1");
    expect(second.program.output.lastLines()).toContain("another natbinder runs on this host");
    second.program.kill();
  });
});
