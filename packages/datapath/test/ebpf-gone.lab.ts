import { expect, it, onTestFinished } from "vitest";
import { trafficCommands } from "../../../kernel/splice/test/traffic.ts";
import { EbpfRelay } from "./ebpf-relay.ts";

const STREAMS = 4;
/** Streams, two flows of datagrams, and a fan-out's receivers. */
const SPLICES = STREAMS + 4;
const TRAFFIC_S = 60;
const KILLS = 2;

async function start(): Promise<EbpfRelay> {
  const relay = await EbpfRelay.start();
  onTestFinished(() => relay.stop());
  return relay;
}

interface Traffic {
  /** Ids of the allocations by which it goes. */
  readonly allocations: readonly number[];
  /** Waits until bytes pass, of streams or of datagrams. */
  moves(): Promise<void>;
  /** Ends it. @returns what the programs said */
  end(): Promise<string>;
}

/** Sets all going that the programs do. */
async function traffic(relay: EbpfRelay): Promise<Traffic> {
  const row = await relay.cellsInRow(STREAMS);
  const [one, two, many] = [await relay.cell(), await relay.cell(), await relay.fanout()];
  const [a, b] = ([0, 1] as const).map((side) => [one, two, many].map(({ ports }) => ports[side]));
  const datagrams = [a!, [...b!, many.ports[1]]] as const;
  const commands = trafficCommands(relay, { streams: STREAMS, datagrams, seconds: TRAFFIC_S });
  const running = relay.shell.run(`${commands}\nwait`);
  const end = async (): Promise<string> => {
    await relay.shell.run("busybox killall crowd leg sleep");
    return (await running).output;
  };
  onTestFinished(async () => void (await end()));
  await relay.until("all goes on", async () => (await relay.totals()).splices === SPLICES);
  const passed = async () => Number(await relay.on("b", "cat /sys/class/net/b0/statistics/rx_bytes"));
  return {
    allocations: [row, one.id, two.id, many.id],
    end,
    moves: async () => {
      const before = await passed();
      await relay.until("bytes pass", async () => (await passed()) > before + 10_000_000);
    },
  };
}

it("programs are taken off under full traffic when no splice is left, and others work there afterwards", async () => {
  const relay = await start();
  const { allocations, moves, end } = await traffic(relay);
  await moves();
  await Promise.all(allocations.map((id) => relay.release(id)));
  expect(await relay.totals()).toMatchObject({ cells: 0, halves: 0, splices: 0 });
  await relay.ask({ call: "close" });
  await relay.endProcess();
  expect(await relay.leftOfBpf()).toEqual([]);
  expect(await relay.on("i", "for link in lo i0 i1; do tc filter show dev $link ingress; done")).toBe("");
  await relay.startProcess();
  await relay.transfer((await relay.cell()).ports, { bytes: 1_000_000 });
  // Datagrams were sent all the time.
  expect(await end()).toMatch(/broken/);
  expect(await relay.checksumErrors()).toBe(0);
  expect(await relay.unload()).toEqual([]);
});

it("the process is killed under full traffic again and again: all goes on, and nothing is left in the end", async () => {
  const relay = await start();
  const { allocations, moves, end } = await traffic(relay);
  for (let n = 0; n < KILLS; n++) {
    await relay.endProcess("SIGKILL");
    await moves();
    await relay.startProcess();
    expect((await relay.totals()).splices).toBe(SPLICES);
    const { id, ports } = await relay.cell();
    await relay.transfer(ports, { bytes: 1_000_000 });
    await relay.release(id);
    await moves();
  }
  await Promise.all(allocations.map((id) => relay.release(id)));
  expect(await end()).toMatch(/broken/);
  expect(await relay.unload()).toEqual([]);
});

it("an interface goes with live splices under full traffic, and does not wait for them", async () => {
  const relay = await start();
  const { allocations, moves, end } = await traffic(relay);
  await moves();
  await relay.shell.check("timeout 10 ip -n i link del i1");
  await end();
  await Promise.all(allocations.map((id) => relay.release(id)));
  expect(await relay.totals()).toMatchObject({ cells: 0, halves: 0, splices: 0 });
  expect(await relay.unload()).toEqual([]);
});

it("the namespace goes with live splices under full traffic, and takes programs and maps along", async () => {
  const relay = await start();
  const { moves, end } = await traffic(relay);
  await relay.endProcess("SIGKILL");
  await moves();
  await relay.shell.check("ip netns del i");
  // The other end of the relay's wire goes when the namespace really ends.
  await relay.until("it has ended", async () => (await relay.shell.run("ip -n a link show a0")).status !== 0);
  expect(await relay.leftOfBpf()).toEqual([]);
  await end();
  await relay.removeHosts();
  expect(await relay.complaints()).toEqual([]);
});
