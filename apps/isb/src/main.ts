import { configFile, loadConfig, VERSION } from "@isthmus/service";
import { runCommandLine } from "@isthmus/service/command-line";
import { Command, Option } from "commander";
import { callAdmin } from "./admin-client.ts";
import { type Config, configSchema } from "./config.ts";
import { parseCount, parseLifetime } from "./lifetime.ts";
import { serve } from "./serve.ts";

interface Flags {
  config?: string;
  data?: string;
  store?: string;
  listen?: string;
  public?: string[];
  tls?: string;
  cert?: string;
  key?: string;
  adminListen?: string;
  withIst?: boolean;
  logLevel?: string;
}

interface InviteFlags {
  uses: number;
  lifetime: number;
  json?: boolean;
}

function readConfig(flags: Flags): Config {
  return loadConfig(configSchema, {
    file: { path: flags.config ?? configFile("isb"), required: flags.config !== undefined },
    env: { prefix: "ISTHMUS_ISB", values: process.env },
    flags: {
      data: flags.data,
      store: flags.store,
      listen: flags.listen,
      public: flags.public,
      tls: { mode: flags.tls, cert: flags.cert, key: flags.key },
      admin: { listen: flags.adminListen },
      with_ist: flags.withIst,
      log_level: flags.logLevel,
    },
  });
}

/** An invite on standard output, to be piped or pasted; what it is good for on the terminal beside it. */
async function printInvite(body: object, hint: string, { uses, lifetime, json }: InviteFlags): Promise<void> {
  const config = readConfig(program.opts<Flags>());
  const made = await callAdmin(config, "POST", "/v1/invites", { ...body, uses, lifetimeS: lifetime });
  const { invite, expires } = made as { invite: string; expires: string };
  process.stdout.write(json ? `${JSON.stringify(made)}\n` : `${invite}\n`);
  if (!json && process.stderr.isTTY) process.stderr.write(`good until ${expires}, for: ${hint}\n`);
}

function collect(value: string, before: string[] = []): string[] {
  return [...before, value];
}

function lifetimeOption(): Option {
  return new Option("--lifetime <time>", "how long it is good: 90m, 24h, 7d")
    .argParser(parseLifetime)
    .default(parseLifetime("24h"), "24h");
}

/** The configuration without what must not be seen over a shoulder or in a bug report. */
function redacted({ admin, store, ...config }: Config): object {
  return {
    ...config,
    store: store?.replace(/\/\/[^@/]*@/, "//[redacted]@"),
    admin: { ...admin, token: admin.token && "[redacted]" },
  };
}

const program = new Command("isthmus-isb")
  .description("The Internet Service Broker of Isthmus: logins, directory, negotiation of services.")
  .version(VERSION)
  .option("--config <file>", "configuration file (default: ~/.config/isthmus/isb.toml if it is there)")
  .option("--data <folder>", "folder of key, certificate, admin token and store")
  .option("--store <url>", "folder of the store, or the URL of a Redis")
  .option("--listen <host:port>", "where sessions are taken")
  .option("--public <origin>", "address under which clients reach this ISB, ws(s)://HOST:PORT; repeatable", collect)
  .addOption(new Option("--tls <mode>", "on, proxy (one in front ends TLS) or off").choices(["on", "proxy", "off"]))
  .option("--cert <file>", "certificate, PEM")
  .option("--key <file>", "its key, PEM")
  .option("--admin-listen <host:port>", "where the admin API, health and metrics are")
  .option("--with-ist", "run an IST in the same process")
  .option("--log-level <level>", "trace, debug, info, warn, error, fatal or silent")
  .exitOverride();

program
  .command("serve", { isDefault: true })
  .description("run until SIGTERM or SIGINT (the default)")
  .action(() => serve(readConfig(program.opts<Flags>())));

program
  .command("invite")
  .description("make an invite for devices of a user, by the running ISB")
  .argument("<user>", "whom the devices will belong to")
  .option("--uses <n>", "devices that it registers", parseCount, 1)
  .addOption(lifetimeOption())
  .option("--json", "print JSON")
  .action((user: string, flags: InviteFlags) => printInvite({ role: "daemon", user }, "isthmus login INVITE", flags));

program
  .command("invite-ist")
  .description("make an invite for an IST, by the running ISB")
  .option("--uses <n>", "ISTs that it registers", parseCount, 1)
  .addOption(lifetimeOption())
  .option("--json", "print JSON")
  .action((flags: InviteFlags) => printInvite({ role: "ist" }, "the 'registration' of an IST's configuration", flags));

program
  .command("verify")
  .description("check the configuration and say what it amounts to")
  .action(() => {
    process.stdout.write(`${JSON.stringify(redacted(readConfig(program.opts<Flags>())), null, 2)}\n`);
  });

program
  .command("openapi")
  .description("print the admin API's OpenAPI document, from the running ISB")
  .action(async () => {
    const document = await callAdmin(readConfig(program.opts<Flags>()), "GET", "/v1/openapi.json");
    process.stdout.write(`${JSON.stringify(document, null, 2)}\n`);
  });

await runCommandLine(program);
