import { kernelsUnderTest, type VirtualMachine } from "@isthmus/vm";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ALL_FAMILIES } from "../../../kernel/splice/test/relay-topology.ts";
import { bootRelay, type RelayHosts } from "./relay-hosts.ts";

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

describe.each(kernelsUnderTest())("ist_splice between Linux stacks on $version", (kernel) => {
  let vm: VirtualMachine;
  let hosts: RelayHosts;

  beforeAll(async () => {
    ({ vm, hosts } = await bootRelay(kernel));
  });

  afterAll(async () => {
    await vm?.stop();
  });

  /** A counter of a host's stack, by its name in nstat. */
  async function counter(host: "a" | "b", name: string): Promise<number> {
    return Number((await hosts.on(host, `nstat -asz ${name} | awk '/^${name}/ { print $2 }'`)).trim());
  }

  describe("options", () => {
    it("are all agreed on when both have them", async () => {
      const said = await hosts.transfer((await hosts.cell()).ports, { bytes: 100_000 });
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
      await hosts.on(host, `sysctl -qw net.ipv4.${setting}=0`);
      const said = await hosts.transfer((await hosts.cell()).ports, { bytes: 200_000 });
      await hosts.on(host, `sysctl -qw net.ipv4.${setting}=1`);
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
      await hosts.on("a", `sysctl -qw net.ipv4.tcp_ecn=${a}`);
      await hosts.on("b", `sysctl -qw net.ipv4.tcp_ecn=${b}`);
      const said = await hosts.transfer((await hosts.cell()).ports, { bytes: 100_000 });
      for (const host of ["a", "b"] as const) await hosts.on(host, "sysctl -qw net.ipv4.tcp_ecn=2");
      expect(said.map((text) => agreed(text) & ECN)).toEqual([expected, expected]);
    });

    it("offer no more than the narrower of both routes carries", async () => {
      await hosts.on("i", "ip link set i1 mtu 1300");
      await hosts.on("r", "ip link set r0 mtu 1300");
      const said = await hosts.transfer((await hosts.cell()).ports, { bytes: 500_000 });
      await hosts.on("i", "ip link set i1 mtu 1500");
      await hosts.on("r", "ip link set r0 mtu 1500");
      // Without headers (40) and timestamps (12).
      expect(said.map((text) => Number(/ mss (\d+) /.exec(text)![1]))).toEqual([1248, 1248]);
    });

    it("do not pass TCP Fast Open: what came with a SYN comes again", async () => {
      const { ports } = await hosts.cell();
      for (const host of ["a", "b"] as const) await hosts.on(host, "sysctl -qw net.ipv4.tcp_fastopen=5");
      await hosts.on(
        "i",
        `nft -f - <<NFT
table ip offers {
  chain in {
    type filter hook prerouting priority -400
    tcp dport { ${ports.join(", ")} } tcp flags & (syn|ack) == syn meta length > 500 counter
  }
}
NFT`,
      );
      const said = await hosts.transfer(ports, { bytes: 100_000, words: ["tfo", "tfo"] });
      const seen = await hosts.on("i", "nft list table ip offers; nft delete table ip offers");
      expect(Number(/packets (\d+)/.exec(seen)![1])).toBeGreaterThanOrEqual(2);
      expect(said.map((text) => agreed(text) & SYN_DATA)).toEqual([0, 0]);
    });

    it("do not pass Multipath TCP, which becomes plain TCP", async () => {
      await hosts.transfer((await hosts.cell()).ports, { bytes: 300_000, words: ["mptcp", "mptcp"] });
      for (const host of ["a", "b"] as const) {
        expect(await counter(host, "MPTcpExtMPCapableSYNTX")).toBeGreaterThan(0);
        expect(await counter(host, "MPTcpExtMPCapableFallbackSYNACK")).toBeGreaterThan(0);
      }
    });
  });

  describe("a handshake", () => {
    const SYN = "tcp flags & (syn|ack) == syn";
    const SYN_ACK = "tcp flags & (syn|ack) == (syn|ack)";
    const ACK = "tcp flags & (syn|ack|fin|rst) == ack";

    /** The first packet of a kind that comes to a host is lost. Nobody sends data for a while, so that nothing helps. */
    it.concurrent.each([
      { lost: "a's SYN", at: "i", side: 0, kind: SYN },
      { lost: "b's SYN", at: "i", side: 1, kind: SYN },
      { lost: "a's SYN-ACK, before b's data", at: "a", side: 0, kind: SYN_ACK, words: ["wait 1500", ""] },
      { lost: "b's SYN-ACK, before a's data", at: "b", side: 1, kind: SYN_ACK, words: ["", "wait 1500"] },
      { lost: "a's acknowledgment", at: "i", side: 0, kind: ACK, words: ["wait 1500", "wait 1500"] },
      { lost: "b's acknowledgment", at: "i", side: 1, kind: ACK, words: ["wait 1500", "wait 1500"] },
    ] as const)("heals the loss of $lost", async ({ lost, at, side, kind, ...leg }) => {
      const { id, ports } = await hosts.cell("timeout half 30000");
      const table = `lose${id}`;
      const match = `tcp ${at === "i" ? "dport" : "sport"} ${ports[side]} ${kind}`;
      // Packets behind the first one are counted too, so that a rule which matches nothing is noticed.
      await hosts.on(
        at,
        `nft -f - <<NFT
table ip ${table} {
  chain in {
    type filter hook prerouting priority -400
    ${match} limit rate over 1/hour burst 1 packets return
    ${match} counter drop
  }
}
NFT`,
      );
      const words = "words" in leg ? leg.words : undefined;
      await hosts.transfer(ports, { bytes: 50_000, ...(words && { words }) });
      const seen = await hosts.on(at, `nft list table ip ${table}; nft delete table ip ${table}`);
      expect(seen, lost).toMatch(/packets 1 /);
    });

    it.concurrent.each([100, 900, 5000, 20_000])("waits for a peer that comes after %i ms", async (delayMs) => {
      const { ports } = await hosts.cell("timeout half 60000");
      const [a] = await hosts.transfer(ports, { bytes: 50_000, delayMs });
      // The first leg's start takes some of the time.
      expect(connectSeconds(a)).toBeGreaterThan(delayMs / 1000 - 2);
    });

    it("with a first client that gave up fails at once, and the next one succeeds", async () => {
      const { ports } = await hosts.cell();
      expect(await hosts.meetOneThatGaveUp(ports)).toMatch(/Connection (reset by peer|refused)\nstatus 2/);
      await hosts.transfer(ports, { bytes: 10_000 });
    });
  });

  describe("an end", () => {
    it.each([
      ["a", "0 1 300000 2 half", "300000 2 0 1"],
      ["b", "300000 2 0 1", "0 1 300000 2 half"],
    ])("of %s's stream leaves the other direction open", async (_, a, b) => {
      const { ports } = await hosts.cell();
      await hosts.legs(`tcp ${hosts.way(0, ports)} ${a}`, `tcp ${hosts.way(1, ports)} ${b}`);
    });

    it("of both streams at once is one of both", async () => {
      const { id, ports } = await hosts.cell();
      const go = `/tmp/go-${id}`;
      const legs = hosts.legs(
        `tcp ${hosts.way(0, ports)} 0 1 0 2 go ${go}`,
        `tcp ${hosts.way(1, ports)} 0 2 0 1 go ${go}`,
      );
      await vm.check(
        `until ip netns exec i ${vm.guestShare}/istctl splices ${id} | grep -q state=3; do sleep 0.1; done`,
      );
      // Nobody hears the other's FIN within 3 s, in which both have sent theirs.
      await hosts.on("r", "tc qdisc add dev r1 root netem delay 3s; tc qdisc add dev r0 root netem delay 3s");
      await vm.check(`touch ${go}`);
      await legs;
      const waiting = (host: "a" | "b", port: number): Promise<string> =>
        hosts.on(
          host,
          `for try in $(seq 100); do
            ss -Htan state time-wait '( dport = :${port} )' | grep . && break
            sleep 0.2
          done`,
        );
      // Only whoever sent the last FIN leaves at once; when they cross, nobody does.
      expect(await waiting("a", ports[0])).toContain("10.1.0.1");
      expect(await waiting("b", ports[1])).toContain("10.2.0.1");
      await hosts.on("r", "tc qdisc del dev r1 root; tc qdisc del dev r0 root");
      expect(await hosts.istctl(`splices ${id}`)).toMatch(/ state=5 reason=1 /);
    });

    it.each([
      ["a", "10 1 0 2 reset", "0 2 1000 1"],
      ["b", "0 2 1000 1", "10 1 0 2 reset"],
    ])("by RST of %s is one by RST for the other", async (_, a, b) => {
      const { id, ports } = await hosts.cell();
      const { output } = await vm.run(`
        ip netns exec a ${vm.guestShare}/leg tcp ${hosts.way(0, ports)} ${a} &
        ip netns exec b ${vm.guestShare}/leg tcp ${hosts.way(1, ports)} ${b}
        wait
      `);
      expect(output).toMatch(/Connection reset by peer/);
      expect(await hosts.istctl(`splices ${id}`)).toMatch(/ state=6 reason=2 /);
    });

    it("is not made by forged RSTs", async () => {
      const { ports } = await hosts.cell();
      const forged = (end: string): string =>
        Array.from({ length: 12 }, (_, n) => `${end} > R seq ${(n * 357_913_941 + 1) % 2 ** 32}`).join("\n");
      const before = (await hosts.stats()).r26 ?? "0/0";
      const transfer = hosts.transfer(ports, { from: [7100, 7101], bytes: 300_000, words: ["wait 5000", "wait 5000"] });
      await vm.run(`
        until ip netns exec i ${vm.guestShare}/istctl splices | grep -q '10.1.0.2:7100>.*'; do sleep 0.1; done
        sleep 0.5
        ${vm.guestShare}/wire a 10.1.0.2 7100 10.1.0.1 ${ports[0]} b 10.3.0.2 7101 10.2.0.1 ${ports[1]} <<END
${forged("a")}
${forged("b")}
END
      `);
      await transfer;
      const forgeries = (text: string): number => Number(text.split("/")[1]);
      expect(forgeries((await hosts.stats()).r26!) - forgeries(before)).toBeGreaterThanOrEqual(20);
    });

    it("leaves its four numbers free for a new connection", async () => {
      const { id, ports } = await hosts.cell();
      for (const host of ["a", "b"] as const) await hosts.on(host, "sysctl -qw net.ipv4.tcp_tw_reuse=1");
      await hosts.transfer(ports, { from: [7200, 7201], bytes: 50_000 });
      const waiting = await vm.check("for host in a b; do ip netns exec $host ss -Htan state time-wait; done");
      expect(waiting).toMatch(/:720[01]\b/);
      expect(await hosts.istctl(`splices ${id}`)).toMatch(/ state=5 /);
      // A stack takes the numbers again when its clock has moved on by a second.
      await vm.check("sleep 1.5");
      await hosts.transfer(ports, { from: [7200, 7201], bytes: 50_000 });
    });
  });

  it("holds a sender back while the receiver does not read, and lets it probe", async () => {
    const { ports } = await hosts.cell();
    const before = await counter("a", "TcpExtTCPWinProbe");
    await hosts.legs(`tcp ${hosts.way(0, ports)} 200000 1 0 2`, `tcp ${hosts.way(1, ports)} 0 2 200000 1 pause 3000`);
    expect(await counter("a", "TcpExtTCPWinProbe")).toBeGreaterThan(before);
    expect(await counter("b", "TcpExtTCPToZeroWindowAdv")).toBeGreaterThan(0);
  });

  it.concurrent.each(ALL_FAMILIES)(
    "tells a sender of datagrams that nobody listens any more, IPv%i and IPv%i",
    async (...families) => {
      const { ports } = await hosts.cell();
      expect(await hosts.outliveListener(ports, families)).toMatch(/errors [1-9]\d* \(Connection refused\)/);
    },
  );

  it("leaves no wrong checksum and no complaint of the kernel behind", async () => {
    expect(await hosts.checksumErrors()).toBe(0);
    expect(await hosts.unload()).toEqual([]);
  });
});
