import { spawnSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { IsthmusError } from "@isthmus/protocol";
import { silentLogger } from "@isthmus/service";
import { openStore, scanAll } from "../../src/index.ts";

// In a mount namespace of its own: a disk of 1 MiB, first read-only, then full, then with room. Tells it as JSON.
const disk = process.argv[2]!;
const logger = silentLogger();
mkdirSync(disk, { recursive: true });

function mount(...args: string[]): void {
  const { status, stderr } = spawnSync("mount", args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`mount ${args.join(" ")}: ${stderr}`);
}

async function failure(promise: Promise<unknown>): Promise<string | undefined> {
  return promise.then(
    () => undefined,
    (error: IsthmusError) => `${error.code}: ${error.message}: ${(error.cause as Error).message}`,
  );
}

mount("-t", "tmpfs", "-o", "size=1m,ro", "tmpfs", disk);
const readOnly = await failure(openStore(disk, { logger }));
mount("-o", "remount,rw", disk);

const store = await openStore(disk, { logger });
const acknowledged = [];
await store.compareAndSet("kept", 0, 1);
acknowledged.push("kept");
const ballast = join(disk, "ballast");
let refused: string | undefined;
try {
  writeFileSync(ballast, Buffer.alloc(2 ** 20));
} catch {
  // As full as it can be.
}
// What a refused large write had taken of the disk still serves some small ones.
for (const size of [60_000, 10]) {
  refused = undefined;
  for (let n = 0; refused === undefined && n < 1000; n++) {
    const key = `filler/${size}/${n}`;
    refused = await failure(store.compareAndSet(key, 0, "x".repeat(size)));
    if (refused === undefined) acknowledged.push(key);
  }
}
// One that fails takes those of the same turn along, whatever their size.
const together = await Promise.all([
  failure(store.compareAndSet("small", 0, 1)),
  failure(store.compareAndSet("large", 0, "x".repeat(60_000))),
]);
const wellWhenFull = store.health();
const readWhenFull = (await store.get("kept"))?.value;
rmSync(ballast);
const wellWithRoom = store.health();
await store.compareAndSet("later", 0, 2);
acknowledged.push("later");
await store.close();

const again = await openStore(disk, { logger });
const found = [];
for await (const { key } of scanAll(again, "")) found.push(key);
await again.close();
const result = { readOnly, refused, together, wellWhenFull, readWhenFull, wellWithRoom, acknowledged, found };
process.stdout.write(`${JSON.stringify(result)}\n`);
