import { type Home, Lab, NAT_KINDS, type NatKind, type Node } from "@isthmus/lab";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type NatObservations, probeNat, startReflector } from "./fixtures/index.ts";

const KINDS = Object.keys(NAT_KINDS) as NatKind[];
const LOCAL_PORT = 5100;

let lab: Lab;
let reflector: Node;

const homes = new Map<NatKind, Home>();
const observations = new Map<NatKind, NatObservations>();

beforeAll(async () => {
  lab = await Lab.create();
  reflector = await lab.host("reflector", { addresses: 2 });
  await startReflector(reflector);
  await Promise.all(
    KINDS.map(async (kind, index) => {
      const home = await lab.home({ name: `h${index}`, nat: kind });
      homes.set(kind, home);
      observations.set(kind, await probeNat(home.host, reflector, LOCAL_PORT));
    }),
  );
});
afterAll(() => lab.destroy());

/** RFC 4787, 4.1, from the sources that the four corners saw. */
function mappingOf([first, otherPort, otherAddress]: (string | undefined)[]): string {
  if (first === otherPort && first === otherAddress) return "endpoint-independent";
  return first === otherPort ? "address-dependent" : "address-and-port-dependent";
}

/** RFC 4787, 5, from the corners whose answers came through. */
function filteringOf({ otherPort, otherAddress }: NatObservations["udp"]["answered"]): string {
  if (otherAddress) return "endpoint-independent";
  return otherPort ? "address-dependent" : "address-and-port-dependent";
}

describe.each(KINDS)("a NAT of kind %s", (kind) => {
  const seenOf = () => observations.get(kind)!;

  test("lets the corner answer that was asked", () => {
    expect(seenOf().udp.answered.sameCorner).toBe(true);
  });

  // What a pool does is chance: a test of its own looks at it for longer.
  if (kind !== "pool") {
    test("maps UDP and TCP as its description says", () => {
      const { udp, tcp } = seenOf();
      expect(udp.seen).not.toContain(undefined);
      expect(mappingOf(udp.seen)).toBe(NAT_KINDS[kind].mapping);
      expect(tcp.seen[0] === tcp.seen[1]).toBe(NAT_KINDS[kind].mapping === "endpoint-independent");
    });
  }

  test("filters UDP as its description says", () => {
    expect(filteringOf(seenOf().udp.answered)).toBe(NAT_KINDS[kind].filtering);
  });

  test("filters TCP alike", () => {
    expect(seenOf().tcp.calledBack).toBe(NAT_KINDS[kind].filtering === "endpoint-independent");
  });

  test("shows public addresses of its own", () => {
    const { host, router } = homes.get(kind)!;
    const known = kind === "none" ? host.addresses.ipv4 : router.addresses.ipv4;
    for (const source of [...seenOf().udp.seen, ...seenOf().tcp.seen]) expect(known).toContain(source?.split(":")[0]);
  });
});

function portsOf({ udp }: NatObservations): number[] {
  return udp.seen.map((source) => Number(source?.split(":")[1]));
}

test("a symmetric NAT takes ports at random, a sequential one counts", async () => {
  const [random, sequential] = await Promise.all([
    lab.home({ name: "random", nat: "symmetric" }),
    lab.home({ name: "sequential", nat: "symmetric-sequential" }),
  ]);
  const steps = (ports: number[]) => ports.slice(1).map((port, index) => port - ports[index]!);

  expect(steps(portsOf(await probeNat(sequential.host, reflector)))).toEqual([1, 1, 1]);
  expect(steps(portsOf(await probeNat(random.host, reflector)))).not.toEqual([1, 1, 1]);
});

test("a pool spreads flows over all its addresses", async () => {
  const home = await lab.home({ name: "pool", nat: "pool", poolSize: 3, hosts: 8 });
  const seen = await Promise.all(home.hosts.map((host) => probeNat(host, reflector)));
  // Of 32 flows none leaves from one of three addresses: once in 140,000 runs.
  const used = new Set(seen.flatMap(({ udp }) => udp.seen.map((source) => source?.split(":")[0])));
  expect([...used].sort()).toEqual(home.router.addresses.ipv4.toSorted());
});

describe("a cone", () => {
  test("keeps the port of the first host and gives a second one with the same port another", async () => {
    const home = await lab.home({ name: "keeping", nat: "full-cone", hosts: 2 });
    const [first, second] = [
      await probeNat(home.hosts[0]!, reflector, LOCAL_PORT),
      await probeNat(home.hosts[1]!, reflector, LOCAL_PORT),
    ];
    expect(portsOf(first)).toEqual([LOCAL_PORT, LOCAL_PORT, LOCAL_PORT, LOCAL_PORT]);
    expect(new Set(portsOf(second)).size).toBe(1);
    expect(portsOf(second)).not.toContain(LOCAL_PORT);
    expect(filteringOf(second.udp.answered)).toBe("endpoint-independent");
    // The first host's mapping has not been taken away.
    expect(portsOf(await probeNat(home.hosts[0]!, reflector, LOCAL_PORT))).toEqual(portsOf(first));
  });

  test("never keeps ports when told so", async () => {
    const home = await lab.home({ name: "changing", nat: "port-restricted", preservePorts: false });
    const ports = portsOf(await probeNat(home.host, reflector, LOCAL_PORT));
    expect(new Set(ports).size).toBe(1);
    expect(ports).not.toContain(LOCAL_PORT);
  });
});
