import { existsSync } from "node:fs";
import { configFile, loadConfig, VERSION } from "@isthmus/service";
import { runCommandLine } from "@isthmus/service/command-line";
import { Command } from "commander";
import { type Config, configSchema } from "./config.ts";

interface Flags {
  config?: string;
  state?: string;
  socket?: string;
  adminSocket?: string;
  logLevel?: string;
}

function readConfig(flags: Flags): Config {
  return loadConfig(configSchema, {
    file: { path: flags.config ?? configFile("natbinder"), required: flags.config !== undefined },
    env: { prefix: "ISTHMUS_NATBINDER", values: process.env },
    flags: {
      state: flags.state,
      socket: flags.socket,
      admin_socket: flags.adminSocket,
      log_level: flags.logLevel,
    },
  });
}

const program = new Command("natbinder")
  .description("Maps ports on the gateway of this network for programs that listen, as they are. Needs no privilege.")
  .version(VERSION)
  .option("--config <file>", "configuration file (default: ~/.config/isthmus/natbinder.toml if it is there)")
  .option("--state <folder>", "folder of what outlives a restart")
  .option("--socket <path>", "Unix socket at which programs ask")
  .option("--admin-socket <path>", "Unix socket of 'isthmus natbinder'")
  .option("--log-level <level>", "trace, debug, info, warn, error, fatal or silent")
  .exitOverride();

program
  .command("serve", { isDefault: true })
  .description("run until SIGTERM or SIGINT (the default)")
  .action(async () => {
    const config = readConfig(program.opts<Flags>());
    const { serve } = await import("./serve.ts");
    await serve(config);
  });

program
  .command("watch")
  .description(
    "as serve, and sees the binds of all programs by eBPF unless the configuration says how: needs privileges",
  )
  .action(async () => {
    const config = readConfig(program.opts<Flags>());
    const { serve } = await import("./serve.ts");
    const isOpen = config.system_wide === "off" || config.system_wide === "auto";
    await serve(isOpen ? { ...config, system_wide: "cgroup" } : config);
  });

program
  .command("verify")
  .description("check the configuration and say what it amounts to")
  .action(() => {
    process.stdout.write(`${JSON.stringify(readConfig(program.opts<Flags>()), null, 2)}\n`);
  });

program
  .command("run")
  .description("run a program whose ports are mapped when it binds them, and unmapped when it lets go of them")
  .option("--socket <path>", "where natbinder is asked (default: this host's, then this user's)")
  .option("--wait <ms>", "what the program may wait in bind() (default: 500); ISTHMUS_NATBINDER_WAIT_MS is the same")
  .argument("<program>", "as it would be started without")
  .argument("[arguments...]", "those of the program")
  .allowUnknownOption()
  .action(notHere);

program
  .command("containers")
  .description("do as 'run' for containers, whose runtime (runc) is told in its configuration to ask here")
  .option("--socket <path>", "where natbinder is asked (default: this host's, then this user's)")
  .option("--wait <ms>", "what programs may wait in bind() (default: 500)")
  .argument("<path>", "Unix socket at which the runtime asks; only its owner may open it")
  .action(notHere);

/** A program sees the limits and signals of who starts it, which Node changes for its own children. */
function notHere(): never {
  const isBuilt = existsSync(new URL("../build/natbinder-run", import.meta.url));
  throw new Error(isBuilt ? "this is started by bin/natbinder" : "this was not built here: there is no C compiler");
}

await runCommandLine(program);
