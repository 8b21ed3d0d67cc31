import { setTimeout } from "node:timers/promises";
import { Agent, createLocalApi, DeviceKey, LogRing, StateLock } from "@isthmus/agent";
import { CODES, toIsthmusError } from "@isthmus/protocol";
import {
  configFile,
  createLogger,
  formatForPeople,
  listenOnSocket,
  loadConfig,
  Metrics,
  stopOnSignals,
  VERSION,
} from "@isthmus/service";
import { runCommandLine } from "@isthmus/service/command-line";
import { Command } from "commander";
import { type Config, configSchema } from "./config.ts";

/** A configured invite is tried again after this while the ISB does not answer. */
const INVITE_RETRY_MS = 2000;

interface Flags {
  config?: string;
  state?: string;
  socket?: string;
  logLevel?: string;
  direct?: boolean;
  legPort?: string;
  insecure?: boolean;
}

function readConfig(flags: Flags): Config {
  return loadConfig(configSchema, {
    file: { path: flags.config ?? configFile("daemon"), required: flags.config !== undefined },
    env: { prefix: "ISTHMUS_DAEMON", values: process.env },
    flags: {
      state: flags.state,
      socket: flags.socket,
      log_level: flags.logLevel,
      // Commander sets a negatable flag to true when it is absent: only its absence from the command line counts.
      direct: flags.direct === false ? false : undefined,
      leg_port: flags.legPort === undefined ? undefined : Number(flags.legPort),
      insecure: flags.insecure,
    },
  });
}

async function serve(config: Config): Promise<void> {
  const logs = new LogRing();
  const isTerminal = process.stdout.isTTY;
  // Connections do not end because nobody reads the log any more; `isthmus logs` still has its newest lines.
  process.stdout.on("error", () => undefined);
  const logger = createLogger({
    name: "daemon",
    level: config.log_level,
    write: (line) => {
      logs.write(line);
      process.stdout.write(isTerminal ? formatForPeople(line) : line);
    },
  });
  const lock = await StateLock.take(config.state);
  const metrics = new Metrics("daemon");
  metrics.collectProcess();
  const agent = new Agent({
    version: VERSION,
    folder: config.state,
    key: new DeviceKey(config.state),
    direct: { enabled: config.direct, port: config.leg_port },
    insecure: config.insecure,
    mostStreams: config.most_streams,
    metrics,
    logger,
  });
  const api = createLocalApi({ agent, logs, metrics, logger });
  // Before anything is done for peers: a second daemon on this socket ends here.
  await listenOnSocket(api, config.socket);
  stopOnSignals(logger, async () => {
    await api.close();
    await agent.stop();
    lock.release();
  });
  await agent.start();
  logger.info({ socket: config.socket, state: config.state, pid: process.pid }, "ready");
  // One that cannot be had (the name is another device's by now) is no reason to withhold the others.
  const attempt = async (what: string, run: () => Promise<unknown>): Promise<void> => {
    try {
      await run();
    } catch (error) {
      logger.error({ code: toIsthmusError(error).code }, `configuration: ${what}: ${(error as Error).message}`);
    }
  };
  for (const service of config.provide) {
    await attempt(`service ${service.name}`, () => agent.provide(service, { take: false }));
  }
  for (const request of config.subscribe) {
    await attempt(`subscription ${request.service}`, () => agent.keepSubscribed(request));
  }
  await attempt("invite", () => useInvite(agent, config));
}

/** Logs in with the configured invite, though the ISB may start later than the daemon. @throws Error it is refused */
async function useInvite(agent: Agent, { invite, device }: Config): Promise<void> {
  while (invite !== undefined && agent.status().isb === undefined) {
    try {
      await agent.login(invite, device);
      return;
    } catch (error) {
      if (!CODES[toIsthmusError(error).code].retry) throw error;
    }
    await setTimeout(INVITE_RETRY_MS);
  }
}

const program = new Command("isthmus-daemon")
  .description("The user daemon of Isthmus: provides local services, subscribes to remote ones. Needs no privilege.")
  .version(VERSION)
  .option("--config <file>", "configuration file (default: ~/.config/isthmus/daemon.toml if it is there)")
  .option("--state <folder>", "folder of the device key and of what the daemon remembers")
  .option("--socket <path>", "Unix socket of the local API")
  .option("--log-level <level>", "trace, debug, info, warn, error, fatal or silent")
  .option("--no-direct", "take no direct connections of other daemons")
  .option("--leg-port <port>", "TCP and UDP port of direct connections; 0: any free one")
  .option("--insecure", "allow sessions over ws:// to other hosts")
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
    process.stdout.write(`${JSON.stringify({ ...config, invite: config.invite && "[redacted]" }, null, 2)}\n`);
  });

await runCommandLine(program);
