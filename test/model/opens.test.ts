import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { NetworkKnobs } from "./ist.ts";
import { judge, type Scenario } from "./scenario.ts";

const network = (knobs: Partial<NetworkKnobs> = {}): NetworkKnobs => ({
  delayMs: [5, 25],
  synLoss: 0,
  blackHole: 0,
  cut: 0,
  resetLoss: 0,
  answersLate: false,
  halfMs: 3500,
  portHeld: 0,
  portChanged: 0,
  ...knobs,
});

const calm: Scenario = {
  seed: 1,
  opens: 12,
  overMs: 3000,
  controlLoss: 0,
  controlDelayMs: 40,
  serviceDown: 0,
  strangers: 0,
  daemonRestarts: 0,
  istRestarts: 0,
  network: network(),
};

const probability = (most: number) => fc.double({ min: 0, max: most, noNaN: true });

const bad: fc.Arbitrary<Scenario> = fc.record({
  seed: fc.nat(),
  opens: fc.integer({ min: 1, max: 12 }),
  overMs: fc.constantFrom(0, 500, 5000),
  controlLoss: probability(0.4),
  controlDelayMs: fc.constantFrom(2, 50, 600),
  serviceDown: fc.constantFrom(0, 0.1),
  strangers: fc.integer({ min: 0, max: 15 }),
  daemonRestarts: fc.integer({ min: 0, max: 2 }),
  istRestarts: fc.integer({ min: 0, max: 2 }),
  network: fc
    .record({
      synLoss: probability(0.3),
      blackHole: probability(0.2),
      cut: probability(0.2),
      resetLoss: probability(0.5),
      answersLate: fc.boolean(),
      portHeld: probability(0.5),
      portChanged: probability(0.5),
      most: fc.constantFrom(1, 60, 300),
    })
    .map(({ most, ...knobs }) => network({ ...knobs, delayMs: [1, most] })),
});

describe("opens between two daemons and an IST", () => {
  it("are all joined and whole in a calm world, over cells and the stream endpoint alike", () => {
    fc.assert(
      fc.property(fc.nat(), fc.boolean(), fc.integer({ min: 1, max: 30 }), (seed, answersLate, opens) => {
        const { joined, pure, whole } = judge({ ...calm, seed, opens, network: network({ answersLate }) });
        expect(joined).toBe(opens);
        expect(whole).toBe(opens);
        expect(pure).toBeGreaterThan(0);
      }),
      { numRuns: 300 },
    );
  });

  it("end joined once or failed within 10 s, with no byte twice or to somebody else, in any world", () => {
    fc.assert(
      fc.property(bad, (scenario) => {
        judge(scenario);
      }),
      { numRuns: 3000 },
    );
  }, 300_000);

  it("are joined at passive cells when ports are of no use or are changed, all of them", () => {
    fc.assert(
      fc.property(fc.nat(), fc.constantFrom("portHeld", "portChanged"), (seed, what) => {
        const { joined, pure, whole } = judge({ ...calm, seed, network: network({ answersLate: true, [what]: 1 }) });
        expect([joined, pure, whole]).toEqual([calm.opens, 0, calm.opens]);
      }),
      { numRuns: 100 },
    );
  });

  it("are still joined, nearly all, when strangers take legs and SYNs are lost", () => {
    let joined = 0;
    let opens = 0;
    for (let seed = 0; seed < 100; seed++) {
      const scenario = {
        ...calm,
        seed,
        strangers: 10,
        controlLoss: 0.1,
        network: network({ synLoss: 0.1, resetLoss: 0.3 }),
      };
      joined += judge(scenario).joined;
      opens += scenario.opens;
    }
    expect(joined / opens).toBeGreaterThan(0.97);
  });
});
