import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { TestLeg } from "@isthmus/datapath/testing";
import {
  type AllocationLimits,
  type AllocationOffer,
  encodeLegHeader,
  type LegHeader,
  parseHostPort,
} from "@isthmus/protocol";
import { createIdentity, Metrics, silentLogger } from "@isthmus/service";
import { onTestFinished } from "vitest";
import type { z } from "zod";
import { Relay, type RelayOptions, relayConfig } from "../src/index.ts";
import { TestDaemon } from "./test-daemon.ts";
import { TestIsb } from "./test-isb.ts";

export type ConfigInput = z.input<typeof relayConfig>;

/** A configuration that a test can run beside others. */
export function testConfig(changes: ConfigInput = {}): ConfigInput {
  return {
    data: temporaryFolder(),
    public: ["127.0.0.1", "::1"],
    lock: `isthmus-ist-test-${randomUUID()}`,
    drain_seconds: 0,
    load_seconds: 60,
    ...changes,
    // Tests run beside each other, in the namespace of the host that they are started on: nothing of that is changed.
    data_path: { driver: "userspace", ...changes.data_path },
    listen: { port: 0, ...changes.listen },
  };
}

export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "isthmus-relay-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export interface TestRelay {
  relay: Relay;
  metrics: Metrics;
  config: ConfigInput;
}

export async function startRelay(
  changes: ConfigInput = {},
  options: Pick<RelayOptions, "dataPath"> = {},
): Promise<TestRelay> {
  const config = testConfig(changes);
  const metrics = new Metrics("ist");
  const relay = new Relay({ config: relayConfig.parse(config), logger: silentLogger(), metrics, ...options });
  onTestFinished(() => relay.stop());
  await relay.start();
  return { relay, metrics, config };
}

export interface World extends TestRelay {
  isb: TestIsb;
}

/** A relay and its ISB, logged in. */
export async function startWorld(
  changes: ConfigInput = {},
  options: Pick<RelayOptions, "dataPath"> = {},
): Promise<World> {
  const isb = await TestIsb.start();
  const started = await startRelay({ isbs: [isb.broker], ...changes }, options);
  await isb.held.next(({ last }) => last);
  return { ...started, isb };
}

export interface Pair extends World {
  /** The daemons of side 0 and side 1. */
  daemons: [TestDaemon, TestDaemon];
  offers: [AllocationOffer, AllocationOffer];
}

/** A relay, an ISB and two daemons that are logged in and have an allocation. */
export async function startPair(
  changes: ConfigInput = {},
  limits: Partial<AllocationLimits> = {},
  options: Pick<RelayOptions, "dataPath"> = {},
): Promise<Pair> {
  const world = await startWorld(changes, options);
  const identities = [createIdentity(), createIdentity()].sort((a, b) => (a.publicKey < b.publicKey ? -1 : 1));
  const [a, b] = identities as [(typeof identities)[0], (typeof identities)[0]];
  const offers = await world.isb.allocate(a.publicKey, b.publicKey, limits);
  const daemons = await Promise.all([
    new TestDaemon(world.isb.ist, { identity: a }).up(),
    new TestDaemon(world.isb.ist, { identity: b }).up(),
  ]);
  return { ...world, offers, daemons };
}

export interface JoinedPair extends Pair {
  /** Ports of cell 0 and cell 1, of side 0 and side 1. */
  ports: [readonly [number, number], readonly [number, number]];
}

/** The same, both joined. */
export async function startJoinedPair(...args: Parameters<typeof startPair>): Promise<JoinedPair> {
  const pair = await startPair(...args);
  const { daemons, offers } = pair;
  const a = await daemons[0].join(offers[0]);
  const b = await daemons[1].join(offers[1]);
  await daemons[0].peers.next(({ joined }) => joined);
  return {
    ...pair,
    ports: [
      [a.cells[0]!.port, b.cells[0]!.port],
      [a.cells[1]!.port, b.cells[1]!.port],
    ],
  };
}

/** A connection of this test, from a loopback address. */
export function dial(port: number, host = "127.0.0.1", localAddress?: string): TestLeg {
  const leg = new TestLeg(
    connect({ port, host, allowHalfOpen: true, noDelay: true, ...(localAddress ? { localAddress } : {}) }),
  );
  onTestFinished(() => void leg.socket.destroy());
  return leg;
}

/** The header of a leg at the stream endpoint. */
export function legHeader(offer: AllocationOffer, fields: Partial<LegHeader> = {}): Buffer {
  return encodeLegHeader(
    {
      kind: "leg",
      side: offer.side,
      allocation: offer.allocation,
      generation: "00000000000000aa",
      openId: 0,
      attempt: 0,
      ...fields,
    },
    Buffer.from(offer.token, "base64url"),
  );
}

export function alsoHeader(offer: AllocationOffer): Buffer {
  return legHeader(offer, { kind: "also", generation: "0000000000000000" });
}

/** A leg at the stream endpoint, its header sent. */
export function dialStream(
  offer: AllocationOffer,
  fields: Partial<LegHeader> = {},
  from: { host?: string; localAddress?: string } = {},
): TestLeg {
  const { port } = parseHostPort(offer.ist.addresses[0]!)!;
  const leg = dial(port, from.host, from.localAddress);
  leg.write(legHeader(offer, fields));
  return leg;
}
