import { kernelsUnderTest, type VirtualMachine } from "@isthmus/vm";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ALL_FAMILIES } from "../../../kernel/splice/test/relay-topology.ts";
import {
  bothWays,
  CASES,
  ERRORS,
  errorScript,
  OFFERS,
  offerScripts,
  REFUSED,
  sumsScript,
  WHOLE,
} from "../../../kernel/splice/test/segment-scripts.ts";
import { bootRelay, type RelayHosts } from "./relay-hosts.ts";

const STATES: readonly string[] = [
  "listen",
  "syn-lookup",
  "syn-rcvd",
  "established",
  "close-wait",
  "time-wait",
  "closed",
];

/** The state of the newest of some splices. */
function stateOf(splices: string): string | undefined {
  return STATES[Number(/ state=(\d)/.exec(splices.trim().split("\n").at(-1)!)?.[1])];
}

describe.each(kernelsUnderTest())("ist_splice, segment by segment, on $version", (kernel) => {
  let vm: VirtualMachine;
  let hosts: RelayHosts;

  beforeAll(async () => {
    ({ vm, hosts } = await bootRelay(kernel));
  });

  afterAll(async () => {
    await vm?.stop();
  });

  it.concurrent.each(bothWays(CASES))("$name", async ({ script, state, words }) => {
    expect(stateOf(await hosts.wire(script, { words }))).toBe(state);
  });

  it.concurrent.each(OFFERS)("agrees on what both offer: %s", async (...offer) => {
    for (const script of offerScripts(offer)) await hosts.wire(script);
  });

  it.concurrent.each(ALL_FAMILIES)("passes a whole connection of IPv%i and IPv%i", async (...families) => {
    expect(stateOf(await hosts.wire(WHOLE, { families }))).toBe("time-wait");
  });

  it.concurrent.each(ALL_FAMILIES)("keeps the checksums of datagrams right, IPv%i and IPv%i", async (...families) => {
    await hosts.wire(sumsScript(families), { families });
  });

  it.concurrent.each(ERRORS)("tells the sender of errors on the other side, IPv%o: %s", async (...error) => {
    await hosts.wire(errorScript(error), { families: error[0] });
  });

  it("counts what it refuses by its reason", async () => {
    const reasons = async (): Promise<Record<string, number>> => {
      const stats = await hosts.stats();
      const of = (number: number): number => Number(stats[`r${number}`]?.split("/")[1] ?? 0);
      return { beyondFin: of(24), straySyn: of(25), window: of(26), checksum: of(23), hops: of(21), malformed: of(22) };
    };
    const before = await reasons();
    await hosts.wire(`
a > S seq 1000 bad${REFUSED}`);
    const after = await reasons();
    const grown = Object.entries(after).map(([name, count]) => [name, count - before[name]!]);
    expect(Object.fromEntries(grown)).toEqual({
      beyondFin: 1,
      straySyn: 1,
      window: 1,
      checksum: 1,
      hops: 1,
      malformed: 0,
    });
  });

  it("leaves no complaint of the kernel behind", async () => {
    expect(await hosts.unload()).toEqual([]);
  });
});
