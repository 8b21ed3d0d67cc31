import { spawnSync } from "node:child_process";
import { cpSync, globSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Kernel, KernelModule } from "@isthmus/vm";

/** Where the set-up of benches unpacks Debian's source of the module, and where it is built. */
const FOLDER = join(import.meta.dirname, "../../peers/build");
const NAME = "xt_RTPENGINE";

/** Builds rtpengine's own module, as Debian's DKMS would, for a kernel that is not the running one. */
export function buildRtpengineModule(kernel: Kernel): KernelModule {
  const source = globSync(join(FOLDER, "rtpengine/usr/src/rtpengine-*"))[0];
  if (source === undefined) throw new Error("the source of rtpengine's module is not there: npm run bench fetches it");
  const folder = join(FOLDER, `rtpengine-${kernel.version}`);
  rmSync(folder, { recursive: true, force: true });
  cpSync(source, folder, { recursive: true });
  const make = ["make", "-C", kernel.build, `M=${folder}`, "RTPENGINE_VERSION=bench", "modules"];
  const { status, stdout, stderr } = spawnSync("nice", ["-n", "10", ...make], { encoding: "utf8" });
  const log = stdout + stderr;
  if (status !== 0) throw new Error(`rtpengine's module does not build for ${kernel.version}:\n${log}`);
  return { name: NAME, file: join(folder, `${NAME}.ko`), log };
}
