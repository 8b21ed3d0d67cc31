import { IsthmusError, type ProbeReport } from "@isthmus/protocol";
import { describe, expect, it } from "vitest";
import { type AskProbe, findReach, REACH_REASONS } from "../src/reach.ts";

const [PUBLIC, OTHER, PRIVATE, SHARED] = ["11.1.0.1", "11.1.0.2", "192.168.1.7", "100.64.0.7"];

function answers(outcome: ProbeReport["outcome"], address: string): AskProbe {
  return async () => ({ outcome, address });
}

function refuses(code: ConstructorParameters<typeof IsthmusError>[0]): AskProbe {
  return () => Promise.reject(new IsthmusError(code));
}

async function find(address: string | undefined, ask: AskProbe, protocol: "tcp" | "udp" = "tcp") {
  const { reach, isForAll } = await findReach({ protocol, port: 10_000, address }, ask);
  expect(reach.state).toBe(REACH_REASONS[reach.reason].state);
  return { said: `${reach.state} (${reach.reason})`, message: reach.message, isForAll };
}

describe("what comes of asking the ISB about a mapped port", () => {
  it("is asked with the gateway's own address, and with nothing else", async () => {
    const asked: unknown[] = [];
    await find(
      PUBLIC,
      async (request) => {
        asked.push(request);
        return { outcome: "unprovable", address: PUBLIC };
      },
      "udp",
    );
    expect(asked).toEqual([{ proto: "udp", port: 10_000, address: PUBLIC }]);
  });

  it.each<[ProbeReport["outcome"], string, string]>([
    ["reachable", PUBLIC, "yes (answered)"],
    // Where everything is in one private network, so may the ISB be.
    ["reachable", PRIVATE, "yes (answered)"],
    ["refused", PUBLIC, "no (refused)"],
    ["timeout", PUBLIC, "no (no-answer)"],
    ["unreachable", PUBLIC, "no (no-answer)"],
    ["unprovable", PUBLIC, "unknown (udp)"],
  ])("%s at the gateway's own address %s: %s, for that port alone", async (outcome, address, said) => {
    expect(await find(address, answers(outcome, address))).toMatchObject({ said, isForAll: false });
  });

  it.each([
    [PRIVATE, "not a public one"],
    [SHARED, "not a public one"],
    ["10.1.2.3", "not a public one"],
    ["172.31.0.1", "not a public one"],
    ["192.0.0.2", "not a public one"],
    [PUBLIC, "VPN"],
    ["172.32.0.1", "VPN"],
    ["100.128.0.1", "VPN"],
  ])(
    "a gateway with %s where the ISB sees another address: CGNAT or double NAT, for all ports",
    async (address, why) => {
      for (const protocol of ["tcp", "udp"] as const) {
        const { said, message, isForAll } = await find(address, answers("other-address", OTHER), protocol);
        expect({ said, isForAll }).toEqual({ said: "no (another-nat)", isForAll: true });
        for (const part of ["CGNAT or double NAT", address, OTHER, why]) expect(message).toContain(part);
      }
    },
  );

  it("an ISB that sees the host by IPv6 cannot tell", async () => {
    const found = await find(PUBLIC, answers("other-address", "2001:db8::1"));
    expect(found).toMatchObject({ said: "unknown (ipv6)", isForAll: true });
  });

  it.each([PRIVATE, SHARED, "127.0.0.1"])(
    "an ISB that sees the host at %s is not outside, and cannot tell",
    async (seenAt) => {
      const found = await find(PUBLIC, answers("other-address", seenAt));
      expect(found).toMatchObject({
        said: "unknown (isb-inside)",
        isForAll: true,
        message: expect.stringContaining(seenAt),
      });
      expect(await find("10.0.0.1", answers("other-address", seenAt))).toMatchObject({ said: "no (another-nat)" });
    },
  );

  it("a gateway that does not say its address is no reason to dial", async () => {
    const never = () => Promise.reject(new Error("it was asked"));
    expect(await find(undefined, never)).toMatchObject({ said: "unknown (no-address)", isForAll: true });
  });

  it.each<[ConstructorParameters<typeof IsthmusError>[0], string, boolean]>([
    ["disconnected", "unknown (no-daemon)", true],
    ["not-allowed", "unknown (no-daemon)", true],
    ["not-logged-in", "unknown (no-isb)", true],
    ["probes-off", "unknown (isb-cannot)", true],
    // Of an ISB from before there were probes.
    ["unknown-type", "unknown (isb-cannot)", true],
    ["rate-limited", "unknown (rate-limited)", true],
    ["timeout", "unknown (failed)", false],
    ["internal", "unknown (failed)", false],
  ])("%s: %s", async (code, said, isForAll) => {
    expect(await find(PUBLIC, refuses(code))).toMatchObject({ said, isForAll });
  });

  it("an error of another kind is one too", async () => {
    expect(await find(PUBLIC, () => Promise.reject(new Error("no")))).toMatchObject({ said: "unknown (failed)" });
  });

  it.each(["disconnected", "not-logged-in", "probes-off"] as const)(
    "that a private address is not the world's needs nobody's word (%s)",
    async (code) => {
      const { said, message } = await find(SHARED, refuses(code));
      expect(said).toBe("no (another-nat)");
      expect(message).toBe(`CGNAT or double NAT: the gateway's own address ${SHARED} is not a public one`);
    },
  );

  it("an ISB that had no time has seen the address, be it private", async () => {
    expect(await find(PRIVATE, refuses("rate-limited"))).toMatchObject({ said: "unknown (rate-limited)" });
  });
});
