import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FLOODS, STRANGERS } from "./floods.ts";
import type { Relay, RelayUnderTest } from "./relay.ts";

const CELLS = 100;
const FLOOD_PER_SECOND = 2000;
const FLOOD_SECONDS = 3;
const CLOSED_PORT = 19_999;

export interface LoadOptions {
  pairs: number;
  /** What a splice may take at most, with its part of all tables. */
  mostBytes: number;
}

/** Very many splices at once, and floods of SYNs. */
export function describeLoad(
  title: string,
  start: () => Promise<RelayUnderTest>,
  { pairs, mostBytes }: LoadOptions,
): void {
  describe(title, () => {
    let relay: Relay;
    let stop: (() => Promise<void>) | undefined;
    let row: number;

    beforeAll(async () => {
      const started = await start();
      relay = started.relay;
      stop = () => started.stop();
      row = await relay.cellsInRow(CELLS);
      // Where answers to strangers would go.
      await relay.on("i", `ip route add ${STRANGERS} via 10.1.0.2`);
    });

    afterAll(async () => {
      await stop?.();
    });

    const untilNoMemory = () =>
      relay.until("no memory is left", async () => (await relay.memory()).objects === 0, 90_000);

    it("holds thousands of splices at once, each with its own bytes, and forgets them all", async () => {
      const [up, go] = [`${relay.scratch}/crowd-up`, `${relay.scratch}/crowd-go`];
      const { bytes: before } = await relay.memory();
      const meanwhile = `touch ${up}\nuntil [ -e ${go} ]; do sleep 0.1; done`;
      const crowd = relay.crowd({ cells: CELLS, pairs, bytes: 200, meanwhile, processes: 2, timeoutMs: 240_000 });
      await Promise.race([crowd, relay.shell.check(`until [ -e ${up} ]; do sleep 0.1; done`, 240_000)]);
      expect((await relay.totals()).splices).toBe(pairs);
      expect((await relay.splices(row)).filter(({ state }) => state === "established")).toHaveLength(pairs);
      const { objects, bytes } = await relay.memory();
      await relay.shell.check(`touch ${go}`);
      expect(await crowd).toMatch(/exchanged 200 each way\n(.*\n)*closed after/);
      expect(objects).toBe(pairs);
      const each = (bytes - before) / pairs;
      console.log(`${title}: a splice takes ${each.toFixed(0)} bytes`);
      expect(each).toBeLessThan(mostBytes);
      await untilNoMemory();
      expect(await relay.totals()).toMatchObject({ halves: 0, splices: 0 });
      expect((await relay.memory()).bytes).toBeLessThanOrEqual(before + mostBytes * CELLS);
      expect(await relay.checksumErrors()).toBe(0);
    });

    const flood = (host: "a" | "b", from: string, port: number): Promise<number> =>
      relay.flood(host, from, port, FLOOD_PER_SECOND, FLOOD_SECONDS);

    it("never answers strangers, which a closed port does, and counts each of their SYNs", async () => {
      const fromClosed = await relay.sentTo(STRANGERS, async () => {
        await flood("a", STRANGERS, CLOSED_PORT);
      });
      expect(fromClosed).toBeGreaterThan(100);

      const { packets: before } = await relay.counted("stranger");
      let sent = 0;
      const answers = await relay.sentTo(STRANGERS, async () => {
        // Others come in meanwhile: by the next cell.
        [sent] = await Promise.all([
          flood("a", STRANGERS, 20_000),
          relay.transfer([20_002, 20_003], { bytes: 20_000 }),
        ]);
      });
      const { packets: after } = await relay.counted("stranger");
      expect(answers).toBe(0);
      expect(sent).toBeGreaterThan(FLOOD_PER_SECOND * FLOOD_SECONDS * 0.9);
      // The queue of a virtual wire may overflow under emulation.
      expect(after - before).toBeGreaterThan(sent * 0.9);
      expect((await relay.totals()).halves).toBe(0);
      expect((await relay.memory()).objects).toBeLessThanOrEqual(1);
    });

    it("keeps one leg of a flood from the address that it expects, and lets others in", async () => {
      const endpoint = relay.shell.check("echo welcome | ip netns exec i timeout 60 busybox nc -l -p 443");
      const { ended: before } = await relay.counted("replaced");
      let sent = 0;
      const heard = await relay.hearReplaced(async () => {
        [sent] = await Promise.all([
          flood("a", FLOODS["the expected address"], 20_000),
          relay.transfer([20_004, 20_005], { bytes: 20_000 }),
          relay.shell.check("sleep 1; ip netns exec a busybox nc -w 30 10.1.0.1 443 </dev/null | grep -q welcome"),
        ]);
      });
      const { halves, splices } = await relay.totals();
      const { ended: after } = await relay.counted("replaced");
      await endpoint;
      expect([halves, splices]).toEqual([1, 0]);
      expect(after - before).toBeGreaterThan(sent * 0.9);
      expect(heard).toBeGreaterThan(100);
    });

    it("is held to an allocation's limit by a flood of both expected addresses", async () => {
      const { id, ports } = await relay.cell({ splices: 20 });
      const limited = (await relay.counted("splice-limit")).ended;
      // Their own systems know nothing of what was sent in their name, and would end each splice with a reset.
      for (const host of ["a", "b"] as const) {
        await relay.on(
          host,
          `nft 'add table ip mute; add chain ip mute out { type filter hook output priority 0; }
          add rule ip mute out tcp flags & rst == rst drop'`,
        );
      }
      await Promise.all([flood("a", "10.1.0.2/32", ports[0]), flood("b", "10.3.0.2/32", ports[1])]);
      expect((await relay.totals()).splices).toBe(20);
      expect((await relay.splices(id)).length).toBe(20);
      expect((await relay.counted("splice-limit")).ended - limited).toBeGreaterThan(100);
      for (const host of ["a", "b"] as const) await relay.on(host, "nft delete table ip mute");
      await relay.release(id);
      await untilNoMemory();
    });

    it("leaves neither a complaint of the kernel behind nor memory", async () => {
      await relay.release(row);
      expect(await relay.unload()).toEqual([]);
    });
  });
}
