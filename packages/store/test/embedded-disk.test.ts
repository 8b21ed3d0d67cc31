import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { expect, it } from "vitest";
import { runChild } from "./child/run.ts";

/** A mount namespace of its own, so that the small disk goes with the process. An ordinary user needs one for users too. */
const namespace = process.getuid!() === 0 ? ["unshare", "--mount"] : ["unshare", "--mount", "--map-root-user"];
const allowed = spawnSync(namespace[0]!, [...namespace.slice(1), "true"]).status === 0;

it("refuses writes to a read-only or full disk, still reads, and recovers by itself when there is room", async ({
  skip,
}) => {
  skip(!allowed && process.getuid!() !== 0, "an ordinary user cannot make a mount namespace here");
  const directory = await mkdtemp(join(tmpdir(), "isthmus-store-"));
  try {
    const disk = join(directory, "disk");
    const child = runChild("tight-disk.ts", [disk], namespace);
    const gone = once(child, "exit");
    const output = await text(child.stdout);
    expect(await gone).toEqual([0, null]);
    const told = JSON.parse(output);
    expect(told.readOnly).toContain(`store-unavailable: cannot open the store ${join(disk, "store.sqlite")}: `);
    expect(told.refused).toContain("store-unavailable: ");
    expect(told.refused).toContain("database or disk is full");
    expect(told.together).toEqual([told.refused, told.refused]);
    expect(told.wellWhenFull).toEqual({ ok: false, detail: expect.stringContaining("disk is full") });
    expect(told.readWhenFull).toBe(1);
    expect(told.wellWithRoom).toEqual({ ok: true });
    expect(told.found).toEqual(told.acknowledged.toSorted());
  } finally {
    await rm(directory, { recursive: true });
  }
});
