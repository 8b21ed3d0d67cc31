import { createHash, randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Lab, type Node } from "@isthmus/lab";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openFlow, ping, startLineServer } from "./fixtures/index.ts";

/** What two passes of a delay line, the kernel and a busy machine may add to a round trip. */
const TOLERANCE_MS = 1.5;

let lab: Lab;

beforeEach(async () => {
  lab = await Lab.create();
});
afterEach(() => lab.destroy());

async function medianRoundTrip(from: Node, to: Node): Promise<number> {
  const output = await from.read("ping", ["-n", "-c", "41", "-i", "0.02", to.ipv4]);
  const times = [...output.matchAll(/time=([\d.]+) ms/g)].map(([, time]) => Number(time)).sort((a, b) => a - b);
  expect(times.length).toBe(41);
  return times[20]!;
}

test("a round trip takes twice the delay, and hardly more", async () => {
  const [near, far] = await Promise.all([lab.host("near"), lab.host("far", { delayMs: 10 })]);
  const median = await medianRoundTrip(near, far);
  expect(median).toBeGreaterThanOrEqual(20);
  expect(median).toBeLessThan(20 + TOLERANCE_MS);
});

test("the first packet is as quick as any other", async () => {
  const [near, far] = await Promise.all([lab.host("near", { delayMs: 50 }), lab.host("far", { delayMs: 50 })]);
  const output = await near.read("ping", ["-n", "-c", "1", far.ipv4]);
  expect(Number(/time=([\d.]+)/.exec(output)?.[1])).toBeLessThan(250);
});

test("directions and homes have delays of their own, which can change", async () => {
  const [server, home] = await Promise.all([
    lab.host("server"),
    lab.home({ name: "home", nat: "symmetric", out: { delayMs: 4 }, in: { delayMs: 8 } }),
  ]);
  const median = await medianRoundTrip(home.host, server);
  expect(median).toBeGreaterThanOrEqual(12);
  expect(median).toBeLessThan(12 + TOLERANCE_MS);

  await home.link.delayLine.set("in", { delayMs: 1 });
  const later = await medianRoundTrip(home.host, server);
  expect(later).toBeGreaterThanOrEqual(5);
  expect(later).toBeLessThan(5 + TOLERANCE_MS);
});

test("TCP carries every byte over a delay", async () => {
  const [server, client] = await Promise.all([lab.host("server", { delayMs: 5 }), lab.host("client")]);
  const bytes = randomBytes(8_000_000);
  writeFileSync(join(server.folder, "file"), bytes);
  const script = `require("node:http").createServer((_, to) => require("node:fs").createReadStream("file").pipe(to)).listen(80, "${server.ipv4}", () => console.log("listening"))`;
  await server.spawn(process.execPath, ["-e", script], { cwd: server.folder }).waitForOutput(/listening/);

  const file = join(client.folder, "file");
  await client.read("curl", ["-sS", "-o", file, `http://${server.ipv4}/`], { timeoutMs: 60_000 });
  const digest = (data: Buffer) => createHash("sha256").update(data).digest("hex");
  expect(digest(readFileSync(file))).toBe(digest(bytes));
  expect((await server.link.delayLine.counts()).out.lost).toBe(0);
});

test("a loss is counted, and the same seed loses the same packets", async () => {
  const server = await lab.host("server");
  await startLineServer(server);
  const survivors: string[] = [];
  for (const name of ["one", "two"]) {
    const client = await lab.host(name, { ipv6: false, out: { lossPercent: 0 }, seed: 7 });
    // Only the datagrams below take part in the draw: what a fresh host says by itself has no part in it.
    const flow = await openFlow("udp", client, server);
    await flow.ask("ready");
    await client.script("echo 1 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6");
    const before = await client.link.delayLine.counts();
    await client.link.delayLine.set("out", { delayMs: 0, lossPercent: 30 });
    for (let n = 100; n < 200; n++) flow.send(`d${n}`);
    await expect
      .poll(async () => {
        const { out } = await client.link.delayLine.counts();
        return out.passed + out.lost - before.out.passed;
      })
      .toBe(100);
    const { out } = await client.link.delayLine.counts();
    await client.link.delayLine.set("out", { delayMs: 0 });
    await flow.ask("end");
    const received = [...flow.program.output.text.matchAll(/^d\d+/gm)].map(String);
    expect(received.length).toBe(100 - out.lost);
    expect(out.lost).toBeGreaterThan(10);
    survivors.push(received.join());
  }
  expect(survivors[0]).toBe(survivors[1]);
});

test("a limited line drops what its queue does not hold", async () => {
  const [server, client] = await Promise.all([
    lab.host("server"),
    lab.host("client", { out: { rateMbit: 1, queueKiB: 8 } }),
  ]);
  await startLineServer(server);
  const flow = await openFlow("udp", client, server);
  // 100 datagrams of 1 KB at once, where 8 of them may wait.
  for (let n = 0; n < 100; n++) flow.send("x".repeat(1000));
  await expect.poll(async () => (await client.link.delayLine.counts()).out.overflowed).toBeGreaterThan(50);
  await flow.ask("after");
});

test("a delay line goes on after its link was down", async () => {
  const [near, far] = await Promise.all([lab.host("near"), lab.host("far", { delayMs: 1 })]);
  await far.link.down();
  expect(await ping(near, far.ipv4)).toBe(0);
  await far.link.up();
  expect(await ping(near, far.ipv4)).toBe(1);
});

test("a link without a delay has no delay line", async () => {
  const host = await lab.host("host");
  expect(() => host.link.delayLine).toThrow(/without a delay/);
});
