import { join } from "node:path";
import { Scene } from "../test/fixtures/natbinder-scene.ts";
import { gameServersCase } from "../test/fixtures/use-cases.ts";
import { userFolder } from "../test/fixtures/user-folder.ts";

const SERVER = "/usr/games/openarena-server";
/** For players of the same network: no list of servers is told of it. */
const DEDICATED = ["+set", "dedicated", "1", "+set", "com_hunkmegs", "128", "+map", "oa_dm1"];

const scene = new Scene();

gameServersCase(
  scene,
  "OpenArena's dedicated servers each take the next port, answer the world, and leave nothing",
  async (node, number) => {
    const home = join(node.folder, `openarena-${number}`);
    await userFolder(node, home);
    return { command: SERVER, args: ["+set", "fs_homepath", home, ...DEDICATED], env: { HOME: home } };
  },
);
