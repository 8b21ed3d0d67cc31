import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Relay, RelayAbilities, RelayUnderTest } from "./relay.ts";
import { ALL_FAMILIES } from "./relay-topology.ts";

/** What many an administrator has; it must not see anything wrong in splices, nor in errors about them. */
export function firewall(name: string): string {
  return `nft -f - <<NFT
table inet ${name} {
  chain input { type filter hook input priority 0; ct state invalid counter drop; }
  chain output { type filter hook output priority 0; ct state invalid counter drop; }
  chain forward { type filter hook forward priority 0; ct state invalid counter drop; }
}
NFT`;
}

/** Real NATs in between, and firewalls that drop what no connection explains; the MTU is 1,500 everywhere. */
export function describeNats<T extends Relay>(
  title: string,
  start: () => Promise<RelayUnderTest<T>>,
  { families, learnsMtu, setsDontFragment }: RelayAbilities,
  more: (relay: () => T) => void = () => undefined,
): void {
  describe(title, () => {
    let relay: T;
    let stop: (() => Promise<void>) | undefined;

    beforeAll(async () => {
      const started = await start();
      relay = started.relay;
      stop = () => started.stop();
      for (const host of ["q", "i", "r"] as const) await relay.on(host, firewall("guard"));
    });

    afterAll(async () => {
      await stop?.();
    });

    it.each(ALL_FAMILIES)("passes a Passive Splice of IPv%i and IPv%i", async (...families) => {
      const { id, ports } = await relay.cell();
      await relay.transfer(ports, { families, bytes: 2_000_000 });
      const [a, b] = (await relay.splices(id)).at(-1)!.ends;
      expect(a).toContain(families[0] === 4 ? "10.1.0.2:" : "fd01::2:");
      expect(b).toContain(families[1] === 4 ? "10.2.0.3:" : "fd02::3:");
    });

    it.each([4, 6] as const)("passes a Pure Splice whose ports were agreed on, IPv%i", async (family) => {
      const [one, two] = [32_000 + family, 32_100 + family] as const;
      const id = await relay.pureCell([one, two]);
      await relay.transfer([one, two], { from: [two, one], families: [family, family], bytes: 1_000_000 });
      expect((await relay.splices(id)).at(-1)!.ends).toEqual(
        family === 4 ? [`10.1.0.2:${two}`, `10.2.0.3:${one}`] : [`fd01::2:${two}`, `fd02::3:${one}`],
      );
      await relay.release(id);
    });

    it.concurrent.each(families)(
      "passes datagrams of 3,000 bytes in fragments, IPv%i and IPv%i",
      async (...between) => {
        const [atA, atB] = await relay.datagrams((await relay.cell()).ports, 3000, { families: between });
        expect(Math.min(atA, atB)).toBeGreaterThanOrEqual(10);
      },
    );

    it.concurrent.each([4, 6] as const)("passes datagrams of 6 KB in fragments, IPv%i", async (family) => {
      const [atA, atB] = await relay.datagrams((await relay.cell()).ports, 6144, { families: [family, family] });
      expect(Math.min(atA, atB)).toBeGreaterThanOrEqual(10);
    });

    it.concurrent("waits for a peer that comes after 5 s", async () => {
      const { ports } = await relay.cell({ halfMs: 30_000 });
      await relay.transfer(ports, { bytes: 50_000, delayMs: 5000 });
    });

    it.concurrent("tells a sender of datagrams that nobody listens any more", async () => {
      const { ports } = await relay.cell();
      expect(await relay.outliveListener(ports)).toMatch(/errors [1-9]\d* \(Connection refused\)/);
    });

    it("tells a second client at once that the first one gave up, and the next pair succeeds", async () => {
      const { ports } = await relay.cell();
      expect(await relay.meetOneThatGaveUp(ports)).toMatch(/Connection (reset by peer|refused)\nstatus 2/);
      await relay.transfer(ports, { bytes: 10_000 });
    });

    it.each([
      [4, 4, 1348],
      [6, 6, 1328],
      [4, 6, 1328],
      [6, 4, 1348],
    ] as const)("finds the MTU of a hop of 1,400 bytes behind one NAT, IPv%i and IPv%i", async (...[a, b, mss]) => {
      const forget = "ip route flush cache; ip -6 route flush cache";
      const toldTooBig = async (): Promise<number> => (await relay.counted("too-big")).packets;
      const mssOf = (said: string): number => Number(/ mss (\d+) /.exec(said)![1]);
      // The link itself stays wide, so that b offers what does not fit, and a has to be told.
      await relay.on(
        "r",
        `ip route change 192.168.3.0/24 dev r1 mtu 1400
      ip -6 route change fd13::/64 dev r1 metric 256 mtu 1400`,
      );
      for (const host of ["a", "q", "i", "r"] as const) await relay.on(host, forget);

      // Both are open before anybody knows. The first is told by r, and the relay learns from that.
      const [first, second] = [await relay.cell(), await relay.cell()];
      const [early, late] = [first, second].map(({ id, ports }) =>
        relay.transfer(ports, { families: [a, b], bytes: 500_000, words: [`go ${relay.scratch}/go-${id}`, ""] }),
      );
      for (const { id } of [first, second]) {
        await relay.untilEstablished(id);
      }
      await relay.shell.check(`touch ${relay.scratch}/go-${first.id}`);
      expect(mssOf((await early!)[0])).toBeGreaterThan(mss);
      const before = await toldTooBig();
      // The second is told by the relay itself if that has learned it, since a has forgotten.
      await relay.on("a", `${forget}; touch ${relay.scratch}/go-${second.id}`);
      expect(mssOf((await late!)[0])).toBeGreaterThan(mss);
      if (learnsMtu) expect(await toldTooBig()).toBeGreaterThan(before);
      // The third knows from the start.
      const [third] = await relay.transfer((await relay.cell()).ports, { families: [a, b], bytes: 200_000 });
      if (setsDontFragment || a === 4 || b === 6) expect(mssOf(third)).toBe(mss);

      await relay.on(
        "r",
        `ip route change 192.168.3.0/24 dev r1
      ip -6 route change fd13::/64 dev r1 metric 256`,
      );
      for (const host of ["a", "q", "i", "r"] as const) await relay.on(host, forget);
    });

    more(() => relay);

    it("leaves no wrong checksum and no complaint of the kernel behind", async () => {
      expect(await relay.checksumErrors()).toBe(0);
      expect(await relay.unload()).toEqual([]);
    });
  });
}
