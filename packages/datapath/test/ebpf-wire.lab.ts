import { execFileSync } from "node:child_process";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ALL_FAMILIES } from "../../../kernel/splice/test/relay-topology.ts";
import {
  bothWays,
  CASES,
  ERRORS,
  errorScript,
  OFFERS,
  OPEN,
  offerScripts,
  REFUSED,
  sumsScript,
  WHOLE,
} from "../../../kernel/splice/test/segment-scripts.ts";
import { EbpfRelay, type WireOptions } from "./ebpf-relay.ts";

let relay: EbpfRelay;

const wire = (script: string, options?: WireOptions) => relay.wire(script, options);

/** SYN-ACKs are not repeated unless a test says so. */
const TCP_TIMES = { synAckMs: 60_000, synRcvdMs: 60_000 };

/** Opens the data path anew. */
async function restart(tcpTimes = TCP_TIMES): Promise<void> {
  await relay.ask({ call: "close" });
  await relay.open(tcpTimes);
}

beforeAll(async () => {
  relay = await EbpfRelay.start({ tcpTimes: TCP_TIMES });
});

afterAll(async () => {
  await relay?.stop();
});

/** What the module alone does: it looks at the checksum of a SYN, and has its own words for time-outs. */
const PLAIN = CASES.filter(({ words, script }) => words === undefined && !/ S .* bad$/m.test(script));

describe("the BPF programs, segment by segment", () => {
  it.concurrent.each(bothWays(PLAIN))("$name", async ({ script, state }) => {
    expect(await wire(script)).toBe(state);
  });

  it.concurrent.each(OFFERS)("agree on what both offer: %s", async (...offer) => {
    for (const script of offerScripts(offer)) await wire(script);
  });

  it.concurrent.each(ALL_FAMILIES)("pass a whole connection of IPv%i and IPv%i", async (...families) => {
    expect(await wire(WHOLE, { families })).toBe("time-wait");
  });

  it.concurrent.each(ALL_FAMILIES)("keep the checksums of datagrams right, IPv%i and IPv%i", async (...families) => {
    await wire(sumsScript(families, families[0] === 4 && families[1] === 4), { families });
  });

  it.concurrent.each(ERRORS.filter(([[a, b]]) => a === b))(
    "tell the sender of errors on the other side, IPv%o: %s",
    async (...error) => {
      await wire(errorScript(error), { families: error[0] });
    },
  );
});

it("forget a leg whose peer does not come in time", async () => {
  const { script } = CASES.find(({ words }) => words === "timeout half 500")!;
  expect(await wire(script, { halfMs: 500 })).toBe(undefined);
});

it.each([
  ["timeout syn-ack 300", { synAckMs: 300, synRcvdMs: 60_000 }],
  ["timeout syn-ack 60000 timeout syn-rcvd 800", { synAckMs: 60_000, synRcvdMs: 800 }],
] as const)("a handshake that is not acknowledged: %s", async (which, tcpTimes) => {
  const { script, state } = CASES.find(({ words }) => words === which)!;
  await restart(tcpTimes);
  expect(await wire(script)).toBe(state);
  await restart();
});

it("count what they refuse by its reason", async () => {
  const { dropped: before } = await relay.totals();
  await wire(REFUSED);
  const { dropped } = await relay.totals();
  const reasons = ["beyond-fin", "stray-syn", "window", "hop-limit", "malformed"] as const;
  expect(reasons.map((reason) => (dropped[reason] ?? 0) - (before[reason] ?? 0))).toEqual([1, 1, 1, 1, 0]);
});

describe("where the IST's own way to a side is narrow", () => {
  /** @param mtu of the interface to b, or of the route alone */
  const narrow = (mtu: number, isRoute: boolean): void => {
    execFileSync("sh", [
      "-ec",
      isRoute
        ? `ip netns exec i sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
           ip -n i route replace 10.3.0.0/24 via 10.2.0.3 mtu lock ${mtu}; ip -n i -6 route replace fd03::/64 via fd02::3 mtu lock ${mtu}`
        : `ip -n i link set i1 mtu ${mtu}`,
    ]);
  };
  const widen = (): void => {
    execFileSync("sh", [
      "-ec",
      `ip -n i link set i1 mtu 1500
       ip -n i route replace 10.3.0.0/24 via 10.2.0.3; ip -n i -6 route replace fd03::/64 via fd02::3
       ip netns exec i sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0`,
    ]);
  };

  const HEARD = [
    [[4, 4], "3 4 mtu 1300"],
    [[6, 6], "2 0 mtu 1300"],
    [[4, 6], "3 4 mtu 1280"],
    [[6, 4], "2 0 mtu 1320"],
  ] as const;

  it.each([
    ["an interface", false],
    ["a route", true],
  ] as const)("%s, a sender hears what fits", async (_, isRoute) => {
    // It is wide while both meet, and a second after the narrowing it is not.
    const scripts = HEARD.map(([families, heard]) =>
      wire(
        `${OPEN}
a > A seq 1001 ack 5001 len 1400
b < A seq 1001 ack 5001 len 1400
wait 4000
a > A seq 2401 ack 5001 len 1400
a < icmp ${heard} seq 2401 port 7000
a > A seq 2401 ack 5001 len 1200
b < A seq 2401 ack 5001 len 1200
b > A seq 5001 ack 3601 len 1000
a < A seq 5001 ack 3601 len 1000`,
        { families },
      ),
    );
    setTimeout(() => narrow(1300, isRoute), 2000);
    const done = await Promise.allSettled(scripts);
    widen();
    expect(done.filter(({ status }) => status === "rejected")).toEqual([]);
  });

  it("the sender of a datagram hears of it, too", async () => {
    narrow(1300, false);
    try {
      await wire(`
a > udp len 10
b > udp len 10
a < udp len 10
a > udp len 1400
a < icmp 3 4 mtu 1300 port 7000
b -
a > udp len 1200
b < udp len 1200
a > udp len 30 ttl 1
a < icmp 11 0 port 7000`);
    } finally {
      widen();
    }
  });
});
