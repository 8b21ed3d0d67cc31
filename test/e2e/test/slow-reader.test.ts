import { setTimeout as sleep } from "node:timers/promises";
import { portOf, type TwoHomes, twoHomes } from "@isthmus/e2e";
import { Lab, ORDINARY_UID, type Program } from "@isthmus/lab";
import { describe, type ExpectStatic, expect, it } from "vitest";
import { keystream } from "./fixtures/keystream.ts";
import { TcpClient, TcpServer } from "./fixtures/peers.ts";

const MIB = 1024 * 1024;
const REPLY_BYTES = 1024 * MIB;
const SECONDS = 20;
const MOST_GROWTH = 16 * MIB;
/** Linux' own ones are tens of MiB each, and a daemon that fills them has moved a lot before the sender stalls. */
const SMALL_BUFFER = 256 * 1024;
/** At each of the four connections on the way what waits to be sent and to be read; half as much again in programs. */
const MOST_ON_THE_WAY = 4 * 2 * SMALL_BUFFER * 1.5;

/** Asks the system for exactly one byte each second, and writes them as hexadecimal numbers. */
const READER = `exec 3<>/dev/tcp/127.0.0.1/$0
for second in $(seq $1); do dd bs=1 count=1 status=none <&3 | od -An -v -tx1; sleep 1; done`;

describe("a client that reads one byte a second of a reply of 1 GiB", { concurrent: true }, () => {
  it("stalls the sender and costs no memory, where the system's buffers are small", async ({ expect }) => {
    await using lab = await Lab.create();
    const homes = await twoHomes(lab);
    const buffers = ["rmem", "wmem"].map((name) => `sysctl -w net.ipv4.tcp_${name}="4096 65536 ${SMALL_BUFFER}"`);
    for (const name of ["alice", "bob", "ist"]) await lab.node(name).script(buffers.join("\n"));

    const { grown, sent } = await readSlowly(homes, await offerBoth(homes), expect);

    expect(grown).toEqual({ alice: below(MOST_GROWTH), bob: below(MOST_GROWTH), ist: below(MOST_GROWTH) });
    expect(sent.at(-1)).toEqual([below(MOST_ON_THE_WAY), below(MOST_ON_THE_WAY)]);
    expect(sent.at(-1)).toEqual(sent[SECONDS / 2]);
  });

  it("stalls the sender and costs no memory, where they are Linux' own", async ({ expect }) => {
    await using lab = await Lab.create();
    const homes = await twoHomes(lab);
    const streams = await offerBoth(homes);
    // What Node takes to move as much as fits the buffers, and keeps for the next time, whoever reads.
    for (const { warmUp } of streams)
      await TcpClient.run(homes.alice.node, warmUp, [{ do: "await-end" }, { do: "end" }]);

    const { grown, sent } = await readSlowly(homes, streams, expect);

    expect(grown).toEqual({ alice: below(MOST_GROWTH), bob: below(MOST_GROWTH), ist: below(MOST_GROWTH) });
    expect(sent.at(-1)).toEqual([below(REPLY_BYTES / 4), below(REPLY_BYTES / 4)]);
    expect(sent.at(-1)).toEqual(sent[SECONDS / 2]);
  });
});

type Stream = Awaited<ReturnType<typeof offer>>;

/** Reads both for {@link SECONDS}. @returns what the programs grew by at most, and what was sent after each second */
async function readSlowly({ alice, bob, deployment }: TwoHomes, streams: Stream[], expect: ExpectStatic) {
  const programs = { alice: alice.program, bob: bob.program, ist: deployment.ist.program };
  const before = memoryOf(programs);
  const readers = streams.map(({ port }) =>
    alice.node.spawn("bash", ["-c", READER, String(port), String(SECONDS)], { uid: ORDINARY_UID, ends: true }),
  );
  const grown = { alice: 0, bob: 0, ist: 0 };
  const sent: number[][] = [];
  for (let second = 0; second < SECONDS; second++) {
    await sleep(1000);
    const now = memoryOf(programs);
    for (const name of ["alice", "bob", "ist"] as const) grown[name] = Math.max(grown[name], now[name] - before[name]);
    sent.push(streams.map(({ server }) => server.sent));
  }
  for (const [index, { seed }] of streams.entries()) {
    await readers[index]!.exited;
    const [bytes] = keystream(seed, SECONDS);
    expect(readers[index]!.stdout.text.trim().split(/\s+/)).toEqual(bytes!.toString("hex").match(/../g));
  }
  return { grown, sent };
}

function offerBoth(homes: TwoHomes): Promise<Stream[]> {
  return Promise.all([
    offer(homes, { name: "sealed", consent: [], port: 7000, seed: 1 }),
    offer(homes, { name: "plain", consent: ["--plain"], port: 7001, seed: 2 }),
  ]);
}

interface Offer {
  name: string;
  consent: string[];
  /** Of the server with the long reply; the next one is that of a shorter one. */
  port: number;
  seed: number;
}

async function offer({ alice, bob }: TwoHomes, { name, consent, port, seed }: Offer) {
  const subscribe = async (at: number, bytes: number) => {
    const server = await TcpServer.start(bob.node, at, [
      { do: "send", bytes, seed },
      { do: "end" },
      { do: "await-end" },
    ]);
    await bob.provide(`${name}-${at}`, "--tcp", `127.0.0.1:${at}`, "--allow", "alice", ...consent);
    return { server, port: portOf(await alice.subscribe(`${name}-${at}@bob`, ...consent)) };
  };
  const { port: warmUp } = await subscribe(port + 100, 64 * MIB);
  return { seed, warmUp, ...(await subscribe(port, REPLY_BYTES)) };
}

function memoryOf<Name extends string>(programs: Record<Name, Program>): Record<Name, number> {
  const entries = Object.entries<Program>(programs).map(([name, program]) => [name, program.resources().rssBytes]);
  return Object.fromEntries(entries) as Record<Name, number>;
}

function below(limit: number): unknown {
  return expect.toSatisfy((value: number) => value < limit, `less than ${limit}`);
}
