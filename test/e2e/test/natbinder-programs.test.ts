import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Natbinder, NODE, ownFolder, until } from "@isthmus/e2e";
import { ORDINARY_UID } from "@isthmus/lab";
import { describe, expect, it } from "vitest";
import { Scene } from "./fixtures/natbinder-scene.ts";
import { gameServersCase, rtorrentCase, transmissionCase } from "./fixtures/use-cases.ts";

const GAME_SERVER = join(import.meta.dirname, "fixtures/game-server.ts");

const scene = new Scene();

rtorrentCase(scene);
transmissionCase(scene);
gameServersCase(scene, "small ones each take the next port, answer the world, and leave nothing", async () => {
  return { command: NODE, args: [GAME_SERVER] };
});

describe("isthmus natbinder", () => {
  const json = async <T>(...args: string[]): Promise<T> => {
    const { code, stdout, stderr } = await scene.mine.cli(args);
    if (code !== 0) throw new Error(stdout + stderr);
    return JSON.parse(stdout) as T;
  };

  it("shows, maps by hand, explains and unmaps", async () => {
    expect(await json("map", "20000/udp")).toMatchObject({
      port: 20_000,
      state: "mapped",
      owners: [{ byAdmin: true }],
    });
    expect(await scene.entries()).toContain(`udp 20000 ${scene.lab.node("alice").ipv4}`);
    expect(await json("status")).toMatchObject({
      gateway: { kind: "upnp", address: scene.gateway.address, externalAddress: scene.home.address },
      ports: [{ protocol: "udp", port: 20_000, state: "mapped" }],
    });
    expect(await json("explain", "20000/udp")).toMatchObject({ wanted: { state: "mapped" }, entry: { own: true } });
    expect(await json("explain", "9091")).toMatchObject({ excluded: "excluded" });
    const one = scene.binder();
    await one.take("tcp4", 20_001);
    expect(await scene.mine.cli(["unmap", "20001"])).toMatchObject({ code: 1 });
    // A mapping by hand outlives natbinder.
    await scene.mine.kill();
    await scene.mine.start();
    await scene.mine.portsAre(["udp 20000", "tcp 20001"]);
    await json("unmap", "20000/udp");
    await scene.mine.portsAre(["tcp 20001"]);
    await one.program.destroy();
    await scene.mine.portsAre([]);
  });

  it("is refused to other users", async () => {
    const { code, stderr } = await scene.lab
      .node("alice")
      .run("curl", ["-sS", "--unix-socket", scene.mine.adminSocket, "http://n/v1/status"], {
        uid: ORDINARY_UID - 1,
      });
    expect({ code, stderr }).toEqual({ code: 7, stderr: expect.stringContaining("connect") as string });
  });
});

it("a disk that cannot be written is said, and what a crash would lose is all that is lost", async () => {
  const node = scene.lab.node("carol");
  const folder = ownFolder(node, "full");
  await node.script(`mount -t tmpfs -o size=16k,mode=0777 full ${folder}`);
  writeFileSync(join(folder, "ballast"), "");
  await node.script(`dd if=/dev/zero of=${join(folder, "ballast")} bs=4k 2>/dev/null || true`);
  try {
    const full = await new Natbinder(node, { state: folder }).start();
    const one = scene.binder(full);
    await one.take("tcp4", 20_010);
    await full.portsAre(["tcp 20010"]);
    expect((await full.status()).diskTrouble).toMatch(/ENOSPC|no space/);
    await node.script(`rm ${join(folder, "ballast")}`);
    await until("it is on disk again", async () => (await full.status()).diskTrouble === undefined || undefined);
    await one.program.destroy();
    await full.portsAre([]);
    await full.stop();
  } finally {
    await node.script(`umount ${folder}`);
  }
});
