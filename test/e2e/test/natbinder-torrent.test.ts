import { createHash } from "node:crypto";
import { createReadStream, existsSync } from "node:fs";
import { join } from "node:path";
import { HomeGateway, Natbinder, NODE, ownFile, until } from "@isthmus/e2e";
import { Lab, type Node, ORDINARY_UID } from "@isthmus/lab";
import { expect, it } from "vitest";
import { keystream } from "./fixtures/keystream.ts";
import { mappedPorts } from "./fixtures/mapped-ports.ts";
import { rtorrentAt } from "./fixtures/rtorrent.ts";
import { torrentOf } from "./fixtures/torrent.ts";

const BYTES = 100 * 1024 * 1024;
const TRACKER = join(import.meta.dirname, "fixtures/tracker.ts");
const TRACKER_PORT = 6969;
const PORT = 10_000;
const TRANSFER_MS = 90_000;

async function sha256(chunks: AsyncIterable<Buffer> | Iterable<Buffer>): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of chunks) hash.update(chunk);
  return hash.digest("hex");
}

/** Counts what a home answers to the world through one of its public ports. @returns so many bytes up to now */
async function countAnswers(router: Node, address: string, port: number): Promise<() => Promise<number>> {
  const input = `table inet answers {
  counter answered {}
  chain forward {
    type filter hook forward priority 10
    meta l4proto tcp ct direction reply ct original ip daddr ${address} ct original proto-dst ${port} counter name answered
  }
}
`;
  await router.read("nft", ["-f", "-"], { input });
  return async () => {
    const text = await router.read("nft", ["list", "counter", "inet", "answers", "answered"]);
    return Number(/bytes (\d+)/.exec(text)![1]);
  };
}

it("rTorrents of two homes move 100 MB: the port of the one is mapped, and its tracker tells the other", async () => {
  await using lab = await Lab.create();
  const [outside, provider] = await Promise.all([
    lab.host("outside"),
    lab.home({ name: "home-a", nat: "port-restricted", hosts: ["alice"] }),
    lab.home({ name: "home-b", nat: "symmetric", hosts: ["bob"] }),
  ]);
  const [alice, bob] = [lab.node("alice"), lab.node("bob")];
  await HomeGateway.start(provider);
  const env = { ISTHMUS_NATBINDER_WAIT_MS: "10000" };
  const natbinder = await new Natbinder(alice, { env }).start();
  const tracker = outside.spawn(NODE, [TRACKER, String(TRACKER_PORT)]);
  await tracker.waitForOutput(/listening/);
  const answered = await countAnswers(provider.router, provider.address, PORT);

  const content = Buffer.concat([...keystream(1, BYTES)]);
  const torrent = torrentOf("all.bin", content, `http://${outside.ipv4}:${TRACKER_PORT}/announce`);
  const ports = [PORT, PORT + 9] as const;
  const seeding = await rtorrentAt(alice, "rtorrent", { ports, torrent });
  ownFile(join(seeding.folder, torrent.name), content);
  const seeder = natbinder.run("rtorrent", seeding.args, { env: seeding.env, ends: true });
  await natbinder.portsAre([`tcp ${PORT}`], 40_000);
  expect(await mappedPorts(provider.router)).toEqual([`tcp ${PORT} ${alice.ipv4}`]);
  await tracker.waitForOutput(new RegExp(`started ${provider.address}:${PORT}\n`));

  const settings = [
    `method.set_key = event.download.finished,said,"execute.nothrow=touch,${bob.folder}/rtorrent/done"`,
  ];
  const leeching = await rtorrentAt(bob, "rtorrent", { ports, torrent, settings });
  bob.spawn("rtorrent", leeching.args, { env: leeching.env, uid: ORDINARY_UID, ends: true });
  await until("all is there", () => existsSync(join(leeching.folder, "done")) || undefined, TRANSFER_MS);
  expect(await sha256(createReadStream(join(leeching.folder, torrent.name)))).toBe(await sha256([content]));
  expect(await answered()).toBeGreaterThan(BYTES);

  seeder.kill();
  await seeder.exited;
  await natbinder.portsAre([]);
  expect(await mappedPorts(provider.router)).toEqual([]);
});
