import { readFileSync } from "node:fs";
import { DRIVERS } from "@isthmus/datapath";
import { BrokerFiles } from "@isthmus/relay";
import { configFile, LOG_LEVELS, loadConfig, VERSION } from "@isthmus/service";
import { runCommandLine } from "@isthmus/service/command-line";
import { Command, InvalidArgumentError, Option } from "commander";
import { type Config, configSchema } from "./config.ts";
import { serve } from "./serve.ts";
import { readStatus, statusText } from "./status.ts";
import { redacted, warningsOf } from "./verify.ts";

interface Flags {
  config?: string;
  data?: string;
  name?: string;
  port?: number;
  public?: string[];
  insecure?: boolean;
  ports?: { from: number; to: number };
  dataPath?: string;
  adminListen?: string;
  logLevel?: string;
}

function readConfig(flags: Flags): Config {
  return loadConfig(configSchema, {
    file: { path: flags.config ?? configFile("ist"), required: flags.config !== undefined },
    env: { prefix: "ISTHMUS_IST", values: process.env },
    flags: {
      data: flags.data,
      name: flags.name,
      listen: { port: flags.port },
      public: flags.public,
      insecure: flags.insecure,
      data_path: { driver: flags.dataPath, ports: flags.ports },
      admin: { listen: flags.adminListen },
      log_level: flags.logLevel,
    },
  });
}

function collect(value: string, before: string[] = []): string[] {
  return [...before, value];
}

function parsePort(text: string): number {
  if (!/^\d{1,5}$/.test(text)) throw new InvalidArgumentError("a port is a number");
  return Number(text);
}

function parsePorts(text: string): { from: number; to: number } {
  const match = /^(\d{1,5})-(\d{1,5})$/.exec(text);
  if (!match) throw new InvalidArgumentError("two ports: 20000-32767");
  return { from: Number(match[1]), to: Number(match[2]) };
}

const program = new Command("isthmus-ist")
  .description("The Internet Service Translator of Isthmus: the relay where the legs of two daemons meet.")
  .version(VERSION)
  .option("--config <file>", "configuration file (default: ~/.config/isthmus/ist.toml if it is there)")
  .option("--data <folder>", "folder of key, certificate, ISBs and allocations")
  .option("--name <name>", "name of this IST, as users see it")
  .option("--port <port>", "port of sessions and legs", parsePort)
  .option("--public <host>", "how daemons reach this IST, HOST or HOST:PORT; repeatable", collect)
  .option("--insecure", "take sessions that are not encrypted")
  .addOption(new Option("--data-path <driver>", "what moves the bytes").choices([...DRIVERS]))
  .option("--ports <from-to>", "ports of cells", parsePorts)
  .option("--admin-listen <host:port>", "where health and metrics are")
  .addOption(new Option("--log-level <level>", "least level that is logged").choices([...LOG_LEVELS]))
  .exitOverride();

program
  .command("serve", { isDefault: true })
  .description("run until SIGTERM or SIGINT (the default)")
  .action(() => serve(readConfig(program.opts<Flags>())));

program
  .command("verify")
  .description("check the configuration and say what it amounts to")
  .action(() => {
    const config = readConfig(program.opts<Flags>());
    for (const warning of warningsOf(config)) process.stderr.write(`warning: ${warning}\n`);
    process.stdout.write(`${JSON.stringify(redacted(config), null, 2)}\n`);
  });

program
  .command("status")
  .description("say how the running IST is: what moves its bytes and why, its ISBs, its load")
  .option("--json", "print JSON")
  .action(async ({ json }: { json?: boolean }) => {
    const status = await readStatus(readConfig(program.opts<Flags>()).admin.listen);
    process.stdout.write(json ? `${JSON.stringify(status)}\n` : statusText(status));
  });

program
  .command("join")
  .description("keep the ISB of an invite in the data folder; the next start registers there")
  .argument("<invite>", "of 'isthmus-isb invite-ist'; -: from standard input")
  .option("--json", "print JSON")
  .action((text: string, { json }: { json?: boolean }) => {
    const { data } = readConfig(program.opts<Flags>());
    const invite = text === "-" ? readFileSync(0, "utf8") : text;
    const { addresses, fingerprint, registered } = new BrokerFiles(data).join(invite);
    if (json) process.stdout.write(`${JSON.stringify({ addresses, fingerprint, registered })}\n`);
    else process.stdout.write(`ISB ${fingerprint} at ${addresses.join(", ")}: kept; (re)start the IST\n`);
  });

await runCommandLine(program);
