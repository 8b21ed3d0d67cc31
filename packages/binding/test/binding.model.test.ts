import { IdealState, type StoredState } from "@isthmus/binding";
import { type PortmapCode, PortmapError } from "@isthmus/portmap";
import fc from "fast-check";
import { expect, it } from "vitest";
import { bindOf, startBinding } from "./binding-at.ts";
import { MemoryGateway, OTHER, OWN } from "./memory-gateway.ts";

const PORTS = [10_000, 10_001, 10_002, 10_003];

const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant("bind" as const), port: fc.constantFrom(...PORTS) }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant("close" as const), which: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("restart" as const), isTold: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("hold" as const), port: fc.constantFrom(...PORTS) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("fail" as const),
      code: fc.constantFrom<PortmapCode>("timeout", "full", "denied", "unreachable", "malformed"),
      isAfter: fc.boolean(),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("settle" as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("kill" as const) }) },
);

/** So many turns of the event loop. */
async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}

it("whatever happens, in the end the gateway has what living sockets want and is free, and other hosts' entries", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), fc.infiniteStream(fc.nat(3)), async (steps, delays) => {
      const gateway = new MemoryGateway();
      gateway.gate = () => turns(delays.next().value ?? 0);
      const disk: { content?: StoredState } = {};
      const living = new Map<string, number>();
      const file = {
        save: (state: IdealState) => {
          disk.content = structuredClone(state.toStored());
        },
        flush: async () => undefined,
      };
      const startNext = () => startBinding("", { ...options, state: new IdealState(disk.content) });
      const options = {
        gateway,
        file,
        ownAddresses: () => [OWN],
        answerMs: 1000,
        whatIsOpen:
          async () =>
          (_: unknown, { socket }: { socket: string }) =>
            living.has(socket),
      };
      let binding = await startNext();
      const answers: Promise<unknown>[] = [];
      for (const one of steps) {
        if (one.do === "bind") {
          const request = bindOf(one.port);
          living.set(request.socket, one.port);
          answers.push(
            binding.bind(request).then(({ answer }) => {
              if (answer === "failed") living.delete(request.socket);
            }),
          );
        } else if (one.do === "close") {
          const socket = [...living.keys()][one.which % Math.max(1, living.size)];
          if (socket !== undefined) {
            living.delete(socket);
            binding.close("", socket);
          }
        } else if (one.do === "restart") {
          gateway.mappings.clear();
          if (one.isTold) binding.gatewayEvent({ event: "restarted", why: "epoch" });
        } else if (one.do === "hold") {
          if (!gateway.mappings.has(`tcp ${one.port}`)) gateway.hold("tcp", one.port);
        } else if (one.do === "fail") {
          gateway.failures.push({ error: new PortmapError(one.code), isAfter: one.isAfter });
        } else if (one.do === "settle") {
          await binding.idle();
        } else {
          await Promise.all(answers.splice(0));
          await binding.stop();
          binding = await startNext();
        }
      }
      await Promise.all(answers);
      gateway.failures.length = 0;
      const theirs = gateway.ports(OTHER);
      await binding.idle();
      await binding.reconcile();
      await binding.idle();

      const wanted = [...new Set(living.values())]
        .map((port) => `tcp ${port}`)
        .filter((name) => !theirs.includes(name));
      expect(gateway.ports(OWN).sort()).toEqual(wanted.sort());
      expect(gateway.ports(OTHER).sort()).toEqual(theirs.sort());
      expect(new Set(binding.entries.flatMap(({ owners }) => owners.map(({ socket }) => socket)))).toEqual(
        new Set(living.keys()),
      );
      await binding.stop();
    }),
    { numRuns: 200 },
  );
});
