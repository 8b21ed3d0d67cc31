import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Relay, RelayAbilities, RelayUnderTest } from "./relay.ts";

/** tcpi_options of <linux/tcp.h>. */
const TIMESTAMPS = 1;
const SACK = 2;
const WINDOW_SCALE = 4;
const ECN = 8;
const SYN_DATA = 32;

/** What a stack agreed on, by what `leg` said. */
function agreed(said: string): number {
  return Number(/ options (\d+) /.exec(said)![1]);
}

function connectSeconds(said: string): number {
  return Number(/connected ([\d.]+) s/.exec(said)![1]);
}

export interface StacksOptions extends Pick<RelayAbilities, "families"> {
  /** How long the second leg lets the first one wait, each in milliseconds. */
  holdsMs: readonly number[];
}

/** What Linux stacks make of a relay between them, and it of what they do. */
export function describeStacks(
  title: string,
  start: () => Promise<RelayUnderTest>,
  { holdsMs, families: errorFamilies }: StacksOptions,
): void {
  describe(title, () => {
    let relay: Relay;
    let stop: (() => Promise<void>) | undefined;

    beforeAll(async () => {
      const started = await start();
      relay = started.relay;
      stop = () => started.stop();
    });

    afterAll(async () => {
      await stop?.();
    });

    describe("options", () => {
      it("are all agreed on when both have them", async () => {
        const said = await relay.transfer((await relay.cell()).ports, { bytes: 100_000 });
        expect(said.map(agreed)).toEqual([TIMESTAMPS | SACK | WINDOW_SCALE, TIMESTAMPS | SACK | WINDOW_SCALE]);
      });

      it.each(
        (
          [
            ["timestamps", "tcp_timestamps", TIMESTAMPS],
            ["SACK", "tcp_sack", SACK],
            ["window scale", "tcp_window_scaling", WINDOW_SCALE],
          ] as const
        ).flatMap(([name, setting, bit]) => (["a", "b"] as const).map((host) => ({ name, setting, bit, host }))),
      )("are agreed on without $name when $host has none", async ({ setting, bit, host }) => {
        await relay.on(host, `sysctl -qw net.ipv4.${setting}=0`);
        const said = await relay.transfer((await relay.cell()).ports, { bytes: 200_000 });
        await relay.on(host, `sysctl -qw net.ipv4.${setting}=1`);
        const without = (TIMESTAMPS | SACK | WINDOW_SCALE) & ~bit;
        expect(said.map(agreed)).toEqual([without, without]);
        for (const text of said) expect(/ scales 0 0 /.test(text)).toBe(bit === WINDOW_SCALE);
      });

      it.each([
        ["both ask", 1, 1, ECN],
        ["a asks", 1, 0, 0],
        ["b asks", 0, 1, 0],
        ["both would only accept", 2, 2, 0],
      ])("have ECN only when both ask for it: %s", async (_, a, b, expected) => {
        await relay.on("a", `sysctl -qw net.ipv4.tcp_ecn=${a}`);
        await relay.on("b", `sysctl -qw net.ipv4.tcp_ecn=${b}`);
        const said = await relay.transfer((await relay.cell()).ports, { bytes: 100_000 });
        for (const host of ["a", "b"] as const) await relay.on(host, "sysctl -qw net.ipv4.tcp_ecn=2");
        expect(said.map((text) => agreed(text) & ECN)).toEqual([expected, expected]);
      });

      it("offer no more than the narrower of both routes carries", async () => {
        await relay.on("i", "ip link set i1 mtu 1300");
        await relay.on("r", "ip link set r0 mtu 1300");
        const said = await relay.transfer((await relay.cell()).ports, { bytes: 500_000 });
        await relay.on("i", "ip link set i1 mtu 1500");
        await relay.on("r", "ip link set r0 mtu 1500");
        // Without headers (40) and timestamps (12).
        expect(said.map((text) => Number(/ mss (\d+) /.exec(text)![1]))).toEqual([1248, 1248]);
      });

      it("do not pass TCP Fast Open: what came with a SYN comes again", async () => {
        const { ports } = await relay.cell();
        for (const host of ["a", "b"] as const) await relay.on(host, "sysctl -qw net.ipv4.tcp_fastopen=5");
        const offers = `nft -f - <<NFT
table ip offers {
  chain out {
    type filter hook output priority 0
    tcp flags & (syn|ack) == syn meta length > 500 counter
  }
}
NFT`;
        for (const host of ["a", "b"] as const) await relay.on(host, offers);
        const said = await relay.transfer(ports, { bytes: 100_000, words: ["tfo", "tfo"] });
        for (const host of ["a", "b"] as const) {
          expect(await relay.on(host, "nft list table ip offers; nft delete table ip offers")).toMatch(/packets [1-9]/);
        }
        expect(said.map((text) => agreed(text) & SYN_DATA)).toEqual([0, 0]);
      });

      it("do not pass Multipath TCP, which becomes plain TCP", async () => {
        await relay.transfer((await relay.cell()).ports, { bytes: 300_000, words: ["mptcp", "mptcp"] });
        for (const host of ["a", "b"] as const) {
          expect(await relay.counter(host, "MPTcpExtMPCapableSYNTX")).toBeGreaterThan(0);
          expect(await relay.counter(host, "MPTcpExtMPCapableFallbackSYNACK")).toBeGreaterThan(0);
        }
      });
    });

    describe("a handshake", () => {
      const SYN = "tcp flags & (syn|ack) == syn";
      const SYN_ACK = "tcp flags & (syn|ack) == (syn|ack)";
      const ACK = "tcp flags & (syn|ack|fin|rst) == ack";

      /**
       * The first packet of a kind is lost, which a host sends or which comes to it. Nobody sends data for a while, so that
       * nothing helps.
       */
      it.concurrent.each([
        { lost: "a's SYN", at: "a", hook: "output", side: 0, kind: SYN },
        { lost: "b's SYN", at: "b", hook: "output", side: 1, kind: SYN },
        {
          lost: "a's SYN-ACK, before b's data",
          at: "a",
          hook: "prerouting",
          side: 0,
          kind: SYN_ACK,
          words: ["wait 1500", ""],
        },
        {
          lost: "b's SYN-ACK, before a's data",
          at: "b",
          hook: "prerouting",
          side: 1,
          kind: SYN_ACK,
          words: ["", "wait 1500"],
        },
        { lost: "a's acknowledgment", at: "a", hook: "output", side: 0, kind: ACK, words: ["wait 1500", "wait 1500"] },
        { lost: "b's acknowledgment", at: "b", hook: "output", side: 1, kind: ACK, words: ["wait 1500", "wait 1500"] },
      ] as const)("heals the loss of $lost", async ({ lost, at, hook, side, kind, ...leg }) => {
        const { id, ports } = await relay.cell({ halfMs: 30_000 });
        const table = `lose${id}`;
        const match = `tcp ${hook === "output" ? "dport" : "sport"} ${ports[side]} ${kind}`;
        // Packets behind the first one are counted too, so that a rule which matches nothing is noticed.
        await relay.on(
          at,
          `nft -f - <<NFT
table ip ${table} {
  chain lossy {
    type filter hook ${hook} priority -400
    ${match} limit rate over 1/hour burst 1 packets return
    ${match} counter drop
  }
}
NFT`,
        );
        const words = "words" in leg ? leg.words : undefined;
        await relay.transfer(ports, { bytes: 50_000, ...(words && { words }) });
        const seen = await relay.on(at, `nft list table ip ${table}; nft delete table ip ${table}`);
        expect(seen, lost).toMatch(/packets 1 /);
      });

      it.concurrent.each(holdsMs)("waits for a peer that comes after %i ms", async (delayMs) => {
        const { ports } = await relay.cell({ halfMs: 60_000 });
        const [a] = await relay.transfer(ports, { bytes: 50_000, delayMs });
        // The first leg's start takes some of the time.
        expect(connectSeconds(a)).toBeGreaterThan(delayMs / 1000 - 2);
      });

      it("with a first client that gave up fails at once, and the next one succeeds", async () => {
        const { ports } = await relay.cell();
        expect(await relay.meetOneThatGaveUp(ports)).toMatch(/Connection (reset by peer|refused)\nstatus 2/);
        await relay.transfer(ports, { bytes: 10_000 });
      });
    });

    describe("an end", () => {
      it.each([
        ["a", "0 1 300000 2 half", "300000 2 0 1"],
        ["b", "300000 2 0 1", "0 1 300000 2 half"],
      ])("of %s's stream leaves the other direction open", async (_, a, b) => {
        const { ports } = await relay.cell();
        await relay.legs(`tcp ${relay.way(0, ports)} ${a}`, `tcp ${relay.way(1, ports)} ${b}`);
      });

      it("of both streams at once is one of both", async () => {
        const { id, ports } = await relay.cell();
        const go = `${relay.scratch}/go-${id}`;
        const legs = relay.legs(
          `tcp ${relay.way(0, ports)} 0 1 0 2 go ${go}`,
          `tcp ${relay.way(1, ports)} 0 2 0 1 go ${go}`,
        );
        await relay.untilEstablished(id);
        // Nobody hears the other's FIN before both have sent theirs.
        const { v4 } = relay.addresses.b;
        await relay.on(
          "r",
          `nft -f - <<NFT
table ip fins {
  chain through {
    type filter hook forward priority 0
    ip daddr ${v4} tcp flags & fin == fin counter drop
    ip saddr ${v4} tcp flags & fin == fin counter drop
  }
}
NFT`,
        );
        await relay.shell.check(`touch ${go}`);
        await relay.until("both have sent their FIN", async () => {
          const counters = await relay.on("r", "nft list table ip fins");
          return (counters.match(/packets [1-9]/g)?.length ?? 0) === 2;
        });
        await relay.on("r", "nft delete table ip fins");
        await legs;
        const waiting = (host: "a" | "b", port: number): Promise<string> =>
          relay.on(
            host,
            `for try in $(seq 100); do
              ss -Htan state time-wait '( dport = :${port} )' | grep . && break
              sleep 0.2
            done`,
          );
        // Only whoever sent the last FIN leaves at once; when they cross, nobody does.
        expect(await waiting("a", ports[0])).toContain("10.1.0.1");
        expect(await waiting("b", ports[1])).toContain("10.2.0.1");
        expect((await relay.splices(id)).at(-1)).toMatchObject({ state: "time-wait", reason: "finished" });
      });

      it.each([
        ["a", "10 1 0 2 reset", "0 2 1000 1"],
        ["b", "0 2 1000 1", "10 1 0 2 reset"],
      ])("by RST of %s is one by RST for the other", async (_, a, b) => {
        const { id, ports } = await relay.cell();
        const { output } = await relay.shell.run(`
          ${relay.leg(0, `tcp ${relay.way(0, ports)} ${a}`)} &
          ${relay.leg(1, `tcp ${relay.way(1, ports)} ${b}`)}
          wait
        `);
        expect(output).toMatch(/Connection reset by peer/);
        expect((await relay.splices(id)).at(-1)).toMatchObject({ state: "closed", reason: "reset" });
      });

      it("is not made by forged RSTs", async () => {
        const { id, ports } = await relay.cell();
        const from = [7100, 7101] as const;
        const { packets: before } = await relay.counted("window");
        const transfer = relay.transfer(ports, { from, bytes: 300_000, words: ["wait 5000", "wait 5000"] });
        await relay.untilEstablished(id);
        await relay.forgeResets(ports, from, 12);
        await transfer;
        expect((await relay.counted("window")).packets - before).toBeGreaterThanOrEqual(20);
      });

      it("leaves its four numbers free for a new connection", async () => {
        const { id, ports } = await relay.cell();
        for (const host of ["a", "b"] as const) await relay.on(host, "sysctl -qw net.ipv4.tcp_tw_reuse=1");
        await relay.transfer(ports, { from: [7200, 7201], bytes: 50_000 });
        const waiting = await relay.shell.check(
          "for host in a b; do ip netns exec $host ss -Htan state time-wait; done",
        );
        expect(waiting).toMatch(/:720[01]\b/);
        expect((await relay.splices(id)).at(-1)).toMatchObject({ state: "time-wait" });
        // A stack takes the numbers again when its clock has moved on by a second.
        await relay.shell.check("sleep 1.5");
        await relay.transfer(ports, { from: [7200, 7201], bytes: 50_000 });
      });
    });

    it("holds a sender back while the receiver does not read, and lets it probe", async () => {
      const { ports } = await relay.cell();
      const before = await relay.counter("a", "TcpExtTCPWinProbe");
      await relay.legs(`tcp ${relay.way(0, ports)} 200000 1 0 2`, `tcp ${relay.way(1, ports)} 0 2 200000 1 pause 3000`);
      expect(await relay.counter("a", "TcpExtTCPWinProbe")).toBeGreaterThan(before);
      expect(await relay.counter("b", "TcpExtTCPToZeroWindowAdv")).toBeGreaterThan(0);
    });

    it("pass all unchanged with every offload switched off, and on again", async () => {
      const all = "tx off rx off gso off gro off tso off";
      const set = (features: string): Promise<string> =>
        relay.shell.check(`for at in a/a0 i/i0 i/i1 r/r0 r/r1 b/b0; do
          ip netns exec \${at%/*} ethtool -K \${at#*/} ${features} >/dev/null; done`);
      await set(all);
      await relay.transfer((await relay.cell()).ports, { bytes: 1_000_000 });
      await relay.transfer((await relay.cell()).ports, { bytes: 500_000, families: [4, 6] });
      await set(all.replaceAll("off", "on"));
      await relay.transfer((await relay.cell()).ports, { bytes: 1_000_000 });
    });

    it.concurrent.each(errorFamilies)(
      "tells a sender of datagrams that nobody listens any more, IPv%i and IPv%i",
      async (...families) => {
        const { ports } = await relay.cell();
        expect(await relay.outliveListener(ports, families)).toMatch(/errors [1-9]\d* \(Connection refused\)/);
      },
    );

    it("leaves no wrong checksum and no complaint of the kernel behind", async () => {
      expect(await relay.checksumErrors()).toBe(0);
      expect(await relay.unload()).toEqual([]);
    });
  });
}
