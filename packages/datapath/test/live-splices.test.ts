import fc from "fast-check";
import { expect, it } from "vitest";
import { type LiveSplice, LiveSplices } from "../src/ebpf/live-splices.ts";

const id = fc.bigInt({ min: 0n, max: 9n });
const alloc = fc.bigInt({ min: 0n, max: 2n });

it("tells each allocation's splices, and how many of them are over", () => {
  const step = fc.record({ id, splice: fc.option(fc.record({ alloc, isOver: fc.boolean(), synAcks: fc.nat(3) })) });
  fc.assert(
    fc.property(fc.array(step), (steps) => {
      const live = new LiveSplices();
      const model = new Map<bigint, LiveSplice>();
      for (const { id, splice } of steps) {
        if (splice) {
          live.set(id, splice);
          model.set(id, splice);
        } else {
          live.delete(id);
          model.delete(id);
        }
        for (const alloc of [0n, 1n, 2n]) {
          const all = [...model].filter(([, each]) => each.alloc === alloc);
          expect(new Set(live.of(alloc))).toEqual(new Set(all.map(([key]) => key)));
          expect(live.over(alloc)).toBe(all.filter(([, { isOver }]) => isOver).length);
        }
        expect(live.get(id)).toEqual(model.get(id));
      }
      live.clear();
      expect(live.of(0n)).toEqual([]);
    }),
  );
});
