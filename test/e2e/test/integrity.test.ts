import { statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Daemon, NODE, portOf, type TwoHomes, twoHomes, until } from "@isthmus/e2e";
import { type Capture, Lab, ORDINARY_UID, searchCapture } from "@isthmus/lab";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { keystream } from "./fixtures/keystream.ts";
import { fixture, TcpClient, TcpServer } from "./fixtures/peers.ts";

/** A quarter of the round trip of the two ends, with the IST midway. */
const DELAY_MS = 25;
const ROUND_TRIP_MS = 4 * DELAY_MS;

const TCP_BYTES = 64 * 1024;
const UDP_BYTES = 8 * 1024;
/** Where the first open of all is listened for. */
const FIRST_PORT = 7777;

const TCP_ECHO = 7000;
const UDP_ECHO = 7001;
const NOTHING_THERE = 7002;

describe("over a long way", () => {
  let lab: Lab;
  let homes: TwoHomes;
  /** Behind a firewall that lets out nothing but TCP to port 443. */
  let carol: Daemon;

  beforeAll(async () => {
    lab = await Lab.create();
    const settings = join(lab.internet.node.folder, "ist.toml");
    // Counters are read soon after what they count.
    writeFileSync(settings, "load_seconds = 0.2\n");
    homes = await twoHomes(lab, {
      delayMs: DELAY_MS,
      isbFlags: ["--listen", "[::]:443"],
      istFlags: ["--config", settings],
    });
    await lab.home({ name: "company", nat: "port-restricted", firewall: "https-only", hosts: ["carol"] });
    const { bob, deployment } = homes;
    carol = await deployment.daemon(lab.node("carol"), { user: "carol" });
    await TcpServer.start(bob.node, TCP_ECHO, [{ do: "echo" }]);
    const udpEcho = bob.node.spawn(NODE, [fixture("udp-peer"), "listen", String(UDP_ECHO)], { uid: ORDINARY_UID });
    await udpEcho.waitForOutput(/listening/);
    const everyone = ["--allow", "alice", "--allow", "carol"];
    await bob.provide("tcp", "--tcp", `127.0.0.1:${TCP_ECHO}`, ...everyone);
    await bob.provide("udp", "--udp", `127.0.0.1:${UDP_ECHO}`, ...everyone);
    await bob.provide("clear", "--tcp", `127.0.0.1:${TCP_ECHO}`, "--plain", ...everyone);
    await bob.provide("down", "--tcp", `127.0.0.1:${NOTHING_THERE}`, ...everyone);
  });

  afterAll(async () => {
    await lab?.destroy();
  });

  /** Bytes that the IST forwarded, by where their legs met. */
  const forwarded = (at: "cell" | "stream") => homes.deployment.ist.metric(`isthmus_ist_bytes_total{at="${at}"}`);

  async function forwardedMore(at: "cell" | "stream", before: number, bytes: number): Promise<void> {
    await until(`${bytes} bytes through a ${at}`, async () =>
      (await forwarded(at)) - before >= bytes ? true : undefined,
    );
  }

  async function echoTcp({ node }: Daemon, port: number, seed: number): Promise<void> {
    const actions = [{ do: "send", bytes: TCP_BYTES, seed }, { do: "end" }, { do: "await-end" }] as const;
    const report = await TcpClient.run(node, port, [...actions]);
    expect(report).toMatchObject({ end: "clean", received: TCP_BYTES });
  }

  async function echoUdp({ node }: Daemon, port: number, seed: number): Promise<void> {
    const args = [fixture("udp-peer"), "send", String(port), String(seed), String(UDP_BYTES)];
    expect(await node.read(NODE, args, { uid: ORDINARY_UID, timeoutMs: 90_000 })).toBe("echoed\n");
  }

  describe("nothing of what is said can be read at the IST", () => {
    it("sealed: not at its cells, not at its stream endpoint, not in datagrams", { timeout: 240_000 }, async () => {
      const { alice, deployment } = homes;
      const captures = await Promise.all([deployment.ist, deployment.isb].map(({ node }) => node.capture()));

      // Before both have joined there is the stream endpoint alone.
      let [cell, stream] = [await forwarded("cell"), await forwarded("stream")];
      const first = TcpClient.whenListening(alice.node, FIRST_PORT, [
        { do: "send", bytes: TCP_BYTES, seed: 1 },
        { do: "end" },
        { do: "await-end" },
      ]);
      const subscription = await alice.subscribe("tcp@bob", "--listen", `127.0.0.1:${FIRST_PORT}`);
      expect(await first.report()).toMatchObject({ end: "clean", received: TCP_BYTES });
      await forwardedMore("stream", stream, 2 * TCP_BYTES);
      expect(await forwarded("cell")).toBe(cell);

      await alice.statusWhen("both have joined", ({ subscriptions }) => subscriptions[0]?.tcp.path === "cell");
      await echoTcp(alice, portOf(subscription), 2);
      await forwardedMore("cell", cell, 2 * TCP_BYTES);

      cell = await forwarded("cell");
      await echoUdp(alice, portOf(await alice.subscribe("udp@bob"), "udp"), 3);
      await forwardedMore("cell", cell, 2 * UDP_BYTES);

      stream = await forwarded("stream");
      await echoTcp(carol, portOf(await carol.subscribe("tcp@bob")), 4);
      await echoUdp(carol, portOf(await carol.subscribe("udp@bob"), "udp"), 5);
      await forwardedMore("stream", stream, 2 * (TCP_BYTES + UDP_BYTES));

      for (const capture of captures) await capture.stop();
      const [atIst] = captures as [Capture];
      // Each byte came to the IST and left it, there and back.
      expect(statSync(atIst.file).size).toBeGreaterThan(4 * (3 * TCP_BYTES + 2 * UDP_BYTES));
      const needles = [
        ...[1, 2, 4].flatMap((seed) => needlesOf(seed, TCP_BYTES)),
        ...[3, 5].flatMap((seed) => needlesOf(seed, UDP_BYTES)),
      ];
      for (const { file } of captures) expect(searchCapture(file, needles)).toEqual([]);
    });

    it("plain: this search finds every byte, so that it would have found one", async () => {
      const { alice, deployment } = homes;
      const port = portOf(await alice.subscribe("clear@bob", "--plain"));
      const capture = await deployment.ist.node.capture();
      await echoTcp(alice, port, 6);
      await capture.stop();

      const needles = needlesOf(6, TCP_BYTES);
      const found = new Set(searchCapture(capture.file, needles).map(({ needle }) => needle));
      expect(found.size).toBe(needles.length);
    });
  });

  it("a service that is down is told in less than two round trips", async () => {
    const port = portOf(await homes.alice.subscribe("down@bob"));
    const tries: number[] = [];
    for (let count = 0; count < 5; count++) {
      const { end, ms } = await TcpClient.run(homes.alice.node, port, [{ do: "await-end" }]);
      expect(end).toBe("ECONNRESET");
      tries.push(ms);
    }
    tries.sort((a, b) => a - b);
    expect(tries[2]).toBeLessThan(2 * ROUND_TRIP_MS);
    // It was asked, and not refused by somebody nearer.
    expect(tries[0]).toBeGreaterThan(ROUND_TRIP_MS * 0.9);
  });
});

/** Any 16 bytes in a row of the payload hold one of these. */
function needlesOf(seed: number, length: number): Buffer[] {
  const payload = Buffer.concat([...keystream(seed, length)]);
  return Array.from({ length: length / 8 }, (_, index) => payload.subarray(index * 8, index * 8 + 8));
}
