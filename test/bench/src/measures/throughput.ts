import { setTimeout } from "node:timers/promises";
import { twoHomes } from "@isthmus/e2e";
import { Lab, type Node } from "@isthmus/lab";
import { cpuSeconds } from "../cpu.ts";
import { type Figure, figure } from "../figure.ts";
import { haproxyPath, untilListening } from "../peers/haproxy.ts";
import { isthmusPath } from "../peers/isthmus.ts";
import { hyperdhtPath, libp2pPath } from "../peers/node-peer.ts";
import { type Path, pidsOf } from "../peers/path.ts";
import { sshPath, startSshd } from "../peers/ssh.ts";
import { interleave, ROUNDS } from "../rounds.ts";
import { pairedRatios } from "../statistics.ts";
import type { Measure } from "./measure.ts";

const IPERF_PORT = 5201;
const SECONDS = 1;
/** OpenSSH prefers ChaCha20-Poly1305; with AES in hardware this is its fastest. */
const FAST_CIPHER = "aes128-gcm@openssh.com";

/** iperf3 refuses a test while it still clears up after the one before. */
const TRIES = 5;
const RETRY_PAUSE_MS = 500;
const MOST_ERROR_CHARACTERS = 200;

interface IperfSum {
  bytes: number;
  seconds: number;
}

interface Sample {
  gbitPerSecond: number;
  /** Of all processes on the way together. */
  gbitPerCpuSecond: number;
}

export const throughput: Measure = {
  name: "throughput",
  title: "Throughput, from a program in home A to a service in home B",
  method: `iperf3, ${SECONDS} s each time, no delay, both homes behind port restricted cone NATs. A Gbit per CPU-second is \
10^9 bits that reached the service for each second of processor time, user and system, that all processes on the way \
used together (two daemons and the IST; three HAProxies, with option splice-auto; two ssh and sshd; three programs with \
js-libp2p, the middle one a circuit relay; two with HyperDHT, which are connected through holes in both NATs, and the DHT), \
iperf3 itself left out. HyperDHT carries one stream \
only: each would be a connection of its own, and take its own holes.`,
  async run(say, _draw, pace) {
    await using lab = await Lab.create();
    const homes = await twoHomes(lab);
    const { alice, bob } = homes;
    const relay = await lab.host("relay");
    bob.node.spawn("iperf3", ["-s", "-p", String(IPERF_PORT), "-B", "127.0.0.1"]);
    await untilListening(bob.node, `127.0.0.1:${IPERF_PORT}`);
    const server = await startSshd(relay);
    const port = IPERF_PORT;
    const sealed = await isthmusPath(homes, { name: "sealed", port, listen: 6001 });
    const plain = await isthmusPath(homes, { name: "plain", port, listen: 6002, plain: true });
    const haproxy = await haproxyPath(homes, { relay, port, listen: 6003 });
    const ssh = await sshPath(homes, { server, port, listen: 6004 });
    const fastSsh = await sshPath(homes, { server, port, listen: 6005, cipher: FAST_CIPHER });

    const libp2p = await libp2pPath(homes, { relay, port, listen: 6006 });
    const hyperdht = await hyperdhtPath(homes, { relay, port, listen: 6007 });

    const figures: Figure[] = [];
    for (const streams of [1, 50]) {
      const paths = [plain, sealed, haproxy, ssh, fastSsh, libp2p, ...(streams === 1 ? [hyperdht] : [])];
      const results = await interleave(
        paths,
        async (path, round) => {
          const sample = await sampleOf(alice.node, path, streams);
          say(`${streams} streams, round ${round}: ${path.name} ${sample.gbitPerSecond.toFixed(2)} Gbit/s`);
          return sample;
        },
        pace(ROUNDS),
      );
      figures.push(...figuresOf(streams, results, { plain, sealed, haproxy, ssh, fastSsh, libp2p, hyperdht }));
    }
    return figures;
  },
};

async function sampleOf(client: Node, path: Path, streams: number): Promise<Sample> {
  const pids = pidsOf(path);
  const options = ["-t", String(SECONDS), "-P", String(streams), "--json"];
  for (let tries = 1; ; tries++) {
    const before = cpuSeconds(pids);
    // Its status is 1 also for what is said in the JSON.
    const { stdout } = await client.run("iperf3", ["-c", path.host, "-p", String(path.port), ...options], {
      timeoutMs: 60_000,
    });
    const used = cpuSeconds(pids) - before;
    const { error, end } = resultOf(stdout);
    if (end?.sum_received && error === undefined) {
      const { bytes, seconds } = end.sum_received;
      const gbit = (bytes * 8) / 1e9;
      return { gbitPerSecond: gbit / seconds, gbitPerCpuSecond: gbit / used };
    }
    if (tries === TRIES) throw new Error(`iperf3 by way of ${path.name}: ${error}`);
    await setTimeout(RETRY_PAUSE_MS);
  }
}

/** Where its own connection was cut short, it says so instead. */
function resultOf(output: string): { error?: string; end?: { sum_received?: IperfSum } } {
  try {
    return JSON.parse(output);
  } catch {
    return { error: output.slice(0, MOST_ERROR_CHARACTERS) };
  }
}

function figuresOf(
  streams: number,
  results: ReadonlyMap<Path, Sample[]>,
  paths: Record<"plain" | "sealed" | "haproxy" | "ssh" | "fastSsh" | "libp2p" | "hyperdht", Path>,
): Figure[] {
  const label = streams === 1 ? "1 stream" : `${streams} streams`;
  const rates = (path: Path): number[] => results.get(path)!.map(({ gbitPerSecond }) => gbitPerSecond);
  const costs = (path: Path): number[] => results.get(path)!.map(({ gbitPerCpuSecond }) => gbitPerCpuSecond);
  const { plain, sealed, haproxy, ssh, fastSsh, libp2p, hyperdht } = paths;
  return [
    ...[...results.keys()].flatMap((path) => [
      figure(`${label}: ${path.name}`, "Gbit/s", rates(path)),
      figure(`${label}: ${path.name}`, "Gbit per CPU-second", costs(path)),
    ]),
    figure(`${label}: plain / HAProxies, per CPU-second`, "x", pairedRatios(costs(plain), costs(haproxy)), {
      atLeast: 1.3,
    }),
    figure(`${label}: sealed / ssh, per CPU-second`, "x", pairedRatios(costs(sealed), costs(ssh)), { atLeast: 2 }),
    figure(
      `${label}: sealed / ssh with ${FAST_CIPHER}, per CPU-second`,
      "x",
      pairedRatios(costs(sealed), costs(fastSsh)),
    ),
    figure(`${label}: sealed / js-libp2p, per CPU-second`, "x", pairedRatios(costs(sealed), costs(libp2p))),
    ...(results.has(hyperdht)
      ? [figure(`${label}: sealed / HyperDHT, per CPU-second`, "x", pairedRatios(costs(sealed), costs(hyperdht)))]
      : []),
    figure(`${label}: plain / HAProxies, speed`, "x", pairedRatios(rates(plain), rates(haproxy))),
    figure(`${label}: sealed / ssh, speed`, "x", pairedRatios(rates(sealed), rates(ssh))),
  ];
}
