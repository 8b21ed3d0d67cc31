import { portOf } from "@isthmus/e2e";
import { Lab, ORDINARY_UID } from "@isthmus/lab";
import { Command, CommanderError, Option } from "commander";
import { KernelIst } from "./kernel-ist.ts";
import { showLoopback } from "./loopback.ts";
import { command, detail, headline } from "./narrate.ts";
import { showTwoHomes } from "./two-homes.ts";
import { enterWorld, isInWorld, publishPeople } from "./world.ts";

const program = new Command("npm start --")
  .description(
    "Shows a web server behind one NAT being used from behind another, over real NATs in network namespaces.",
  )
  .option("--once", "end after the check instead of staying")
  .addOption(
    new Option(
      "--datapath <driver>",
      "what moves the bytes at the relay: BPF programs where this host takes them and else its process (auto), its process, or the module ist_splice in the kernel of a virtual machine (root)",
    )
      .choices(["auto", "ebpf", "userspace", "kernel"])
      .default("auto"),
  )
  .exitOverride();

type DataPath = "auto" | "ebpf" | "userspace" | "kernel";

interface Options {
  once?: boolean;
  datapath: DataPath;
}

/** Ctrl-C or another signal to end; what was started is ended then. */
const interrupted = new Promise<void>((resolve) => {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => resolve());
});

/** Stays, with commands to try, unless this is only a check. */
async function stay(once: boolean, commands: string[]): Promise<void> {
  if (once) {
    headline("It works.");
    return;
  }
  headline("It works, and goes on until Ctrl-C. To try in another terminal, in this folder:");
  for (const text of commands) detail(command(text));
  await interrupted;
  process.stdout.write("\n");
}

async function show(lab: Lab, datapath: DataPath) {
  headline("Isthmus: a web server behind one NAT, used from behind another");
  return showTwoHomes(lab, datapath, datapath === "kernel" ? await KernelIst.boot(lab) : undefined);
}

async function showInLab({ once = false, datapath }: Options): Promise<void> {
  await using lab = await Lab.create();
  const shown = await Promise.race([show(lab, datapath), interrupted]);
  if (!shown) return;
  const { homes, subscription } = shown;
  const people = [homes.alice, homes.bob].map(({ user, node, socket }) => {
    return [user, { netns: node.netns, uid: ORDINARY_UID, socket, home: node.folder }] as const;
  });
  publishPeople(Object.fromEntries(people));
  await stay(once, [
    `npm run -s on -- alice curl http://127.0.0.1:${portOf(subscription)}/`,
    "npm run -s on -- alice isthmus explain web@bob",
    "npm run -s on -- bob isthmus status",
  ]);
}

/** What failed, and what then failed in cleaning up. */
function messagesOf(error: unknown): string[] {
  if (error instanceof SuppressedError) return [error.suppressed, error.error].flatMap(messagesOf);
  return [error instanceof Error ? error.message : String(error)];
}

try {
  program.parse();
  const options = program.opts<Options>();
  const { once = false, datapath } = options;
  if (process.getuid?.() !== 0) {
    if (datapath === "kernel") throw new Error("--datapath kernel needs root, for the laboratory around its relay");
    await showLoopback(interrupted, (commands) => stay(once, commands));
  } else if (isInWorld()) await showInLab(options);
  else enterWorld(process.argv.slice(2));
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
  else {
    process.stderr.write(`\n${messagesOf(error).join("\n")}\n`);
    process.exitCode = 1;
  }
}
