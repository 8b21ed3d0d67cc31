import { hostname } from "node:os";
import { DaemonClient } from "@isthmus/agent/client";
import { IsthmusError, type LocalApiInput, localApi, parseHostPort } from "@isthmus/protocol";
import { daemonSocket, formatForPeople, VERSION } from "@isthmus/service";
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { addNatbinder } from "./natbinder.ts";
import { type PortName, portName } from "./port-name.ts";
import {
  describeProbe,
  describeService,
  describeSubscription,
  foreign,
  print,
  printExplanation,
  printStatus,
  SERVICE_HEAD,
  SUBSCRIPTION_HEAD,
  table,
} from "./print.ts";

/** How long `--wait` without a number waits. */
const WAIT_SECONDS = 60;

const program = new Command("isthmus")
  .description("Provide services from behind a NAT, use those of others. Talks to the daemon of this user.")
  .version(VERSION)
  .addOption(new Option("--socket <path>", "the daemon's socket").env("ISTHMUS_SOCKET").default(daemonSocket()))
  .option("--json", "print the answer as JSON")
  .showHelpAfterError("(isthmus --help shows all commands)")
  .exitOverride();

function client(): DaemonClient {
  return new DaemonClient(program.opts<{ socket: string }>().socket);
}

/** Prints an answer for a program or for a person. */
function show<T>(answer: T, forPeople: (answer: T) => void): void {
  if (program.opts<{ json?: boolean }>().json) print(JSON.stringify(answer, null, 2));
  else forPeople(answer);
}

/** A line about long work, on a terminal alone. */
function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`${text}\n`);
}

function target(text: string): string {
  if (!parseHostPort(text)) throw new InvalidArgumentError("is not HOST:PORT");
  return text;
}

function seconds(text: string): number {
  const value = Number(text);
  if (!Number.isFinite(value) || value < 0 || value > 3600)
    throw new InvalidArgumentError("is not a number of seconds from 0 to 3600");
  return value;
}

function count(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError("is not a number");
  return Number(text);
}

function collect<T>(parse: (text: string) => T) {
  return (text: string, before: T[] | undefined): T[] => [...(before ?? []), parse(text)];
}

/** `ID/tcp=HOST:PORT`, or `ID/udp:provider` for a channel that the provider opens. */
function channel(text: string): LocalApiInput<"provide">["channels"][number] {
  const match = /^([a-z0-9._-]+)\/(tcp|udp)(?:=(.+)|:provider)$/.exec(text);
  if (!match) throw new InvalidArgumentError("is not ID/tcp=HOST:PORT, ID/udp=HOST:PORT or ID/udp:provider");
  const [, id, proto, address] = match as unknown as [string, string, "tcp" | "udp", string | undefined];
  return address === undefined ? { id, proto, opener: "provider" } : { id, proto, target: target(address) };
}

function accepted(text: string): [string, string] {
  const at = text.indexOf("=");
  if (at < 1) throw new InvalidArgumentError("is not CHANNEL=HOST:PORT");
  return [text.slice(0, at), target(text.slice(at + 1))];
}

program
  .command("login")
  .description("register this device with the invite of an ISB's operator, and log in")
  .argument("<invite>", "the text that starts with isthmus1:")
  .addOption(new Option("--device <name>", "what to call this device").default(defaultDevice(), "the host's name"))
  .action(async (invite: string, { device }: { device: string }) => {
    const answer = await client().call("login", { invite, device });
    show(answer, ({ user, device: name, isb }) => print(`logged in at ${isb} as ${user}, device ${name}`));
  });

program
  .command("logout")
  .description("forget the ISB and end all subscriptions; services stay for the next login")
  .action(async () => show(await client().call("logout", {}), () => print("logged out")));

interface ProvideFlags {
  tcp?: string;
  udp?: string;
  channel?: LocalApiInput<"provide">["channels"];
  allow?: string[];
  anyone?: boolean;
  plain?: boolean;
  description?: string;
  behaviour?: string;
  take?: boolean;
}

program
  .command("provide")
  .description("offer a service of this host or of its LAN")
  .argument("<name>", "what others will find it by: NAME@YOU")
  .option("--tcp <host:port>", "where the service takes connections", target)
  .option("--udp <host:port>", "where the service takes datagrams", target)
  .option(
    "--channel <channel>",
    "a further channel: ID/tcp=HOST:PORT, ID/udp=HOST:PORT or ID/udp:provider; repeatable",
    collect(channel),
  )
  .option(
    "--allow <user>",
    "who may use it: USER, or USER#FINGERPRINT for one device of theirs; repeatable",
    collect(String),
  )
  .option("--anyone", "every user of the ISB may use it")
  .option("--plain", "consent to unencrypted data, where the subscriber asks for it too")
  .option("--description <text>", "shown in the directory")
  .option("--take", "take the name over from another device of yours")
  .action(async (name: string, flags: ProvideFlags) => {
    const channels = [
      ...(flags.tcp ? [{ id: "tcp", proto: "tcp" as const, target: flags.tcp }] : []),
      ...(flags.udp ? [{ id: "udp", proto: "udp" as const, target: flags.udp }] : []),
      ...(flags.channel ?? []),
    ];
    if (channels.length === 0)
      throw new UsageError("say where the service is: --tcp HOST:PORT, --udp HOST:PORT or --channel");
    const { anyone = false, plain = false, description = "", take = false, allow = [] } = flags;
    const answer = await client().call("provide", { name, channels, allow, anyone, plain, description, take });
    show(answer, (service) => {
      print(table(SERVICE_HEAD, [describeService(service)]));
      if (service.state === "offline") print("it will be offered when this device is logged in");
      if (!service.anyone && service.allow.length === 0)
        print("only your own devices may use it: add --allow USER or --anyone");
    });
  });

program
  .command("withdraw")
  .description("stop offering a service; its connections end")
  .argument("<name>")
  .action(async (name: string) =>
    show(await client().call("withdraw", { name }), () => print(`${name} is not offered any more`)),
  );

program
  .command("list")
  .description("services that you may use")
  .option("--user <user>", "of this user alone")
  .option("--service <name>", "of this name alone")
  .option("--away", "also those whose provider is not logged in")
  .action(async (flags: { user?: string; service?: string; away?: boolean }) => {
    const { entries } = await client().call("list", { ...flags });
    show(entries, (services) => {
      const rows = services.map(({ service, user, device, channels, present, description }) => [
        `${service}@${user}`,
        present ? "present" : "away",
        channels.map(({ id, proto }) => (id === proto ? id : `${id}/${proto}`)).join(", "),
        device,
        foreign(description),
      ]);
      print(
        rows.length === 0
          ? "no service that you may use"
          : table(["SERVICE", "PROVIDER IS", "CHANNELS", "DEVICE", "DESCRIPTION"], rows),
      );
    });
  });

program
  .command("watch")
  .description("follow the directory until Ctrl-C")
  .action(async () => {
    for await (const line of client().lines(localApi.watch.path, untilInterrupted())) {
      const { event, entry } = localApi.watch.reply.parse(JSON.parse(line));
      // One event is one line, for programs too.
      if (program.opts<{ json?: boolean }>().json) print(JSON.stringify({ event, entry }));
      else print(`${new Date().toISOString()} ${event.padEnd(7)} ${entry.service}@${entry.user}`);
    }
  });

interface SubscribeFlags {
  listen?: string;
  wait?: number | true;
  plain?: boolean;
  accept?: [string, string][];
}

program
  .command("subscribe")
  .description("use a service through a port of this host")
  .argument("<service>", "SERVICE@USER, or SERVICE@USER#FINGERPRINT to insist on the provider's key")
  .option("--listen <addr:port>", "where it shall be used; port 0 or no --listen: a free port of 127.0.0.1")
  .option("--wait [seconds]", `wait for an absent provider (${WAIT_SECONDS} s if no number is given)`, seconds)
  .option("--plain", "unencrypted data, where the provider consents: see the manual for what that gives up")
  .option(
    "--accept <channel=host:port>",
    "where a channel that the provider opens is delivered; repeatable",
    collect(accepted),
  )
  .action(async (service: string, { listen, wait, plain = false, accept = [] }: SubscribeFlags) => {
    const waitMs = (wait === true ? WAIT_SECONDS : (wait ?? 0)) * 1000;
    if (waitMs > 0) progress(`waiting for ${service} up to ${waitMs / 1000} s ...`);
    const body = {
      service,
      plain,
      waitMs,
      accept: Object.fromEntries(accept),
      ...(listen === undefined ? {} : { listen }),
    };
    const answer = await client().call("subscribe", body, { waitMs });
    show(answer, (subscription) => print(table(SUBSCRIPTION_HEAD, [describeSubscription(subscription)])));
  });

program
  .command("unsubscribe")
  .description("stop using a service; its connections end")
  .argument("<service>", "SERVICE@USER or the subscription's id")
  .action(async (service: string) =>
    show(await client().call("unsubscribe", { service }), () => print(`not subscribed to ${service} any more`)),
  );

program
  .command("status")
  .description("what this device is, provides and uses")
  .action(async () => show(await client().call("status", {}), printStatus));

program
  .command("explain")
  .description("which way a subscription takes, and why not another")
  .argument("<service>", "SERVICE@USER or the subscription's id")
  .action(async (service: string) => {
    const { subscriptions } = await client().call("status", {});
    const found = subscriptions.find(
      (one) => one.id === service || `${one.service}@${one.user}` === service.split("#")[0],
    );
    if (!found) throw new IsthmusError("no-such-subscription", `there is no subscription '${service}'`);
    show(found, printExplanation);
  });

program
  .command("logs")
  .description("what the daemon logged")
  .option("-f, --follow", "go on until Ctrl-C")
  .option("-n, --lines <number>", "how many of the newest lines", count, 100)
  .action(async ({ follow, lines }: { follow?: boolean; lines: number }) => {
    const path = `${localApi.logs.path}?lines=${lines}${follow ? "&follow=1" : ""}`;
    for await (const line of client().lines(path, untilInterrupted())) {
      if (program.opts<{ json?: boolean }>().json) print(line);
      else process.stdout.write(formatForPeople(line));
    }
  });

program
  .command("trust")
  .description("show pinned keys, accept a changed one, or forget one")
  .argument("[service]", "SERVICE@USER, or SERVICE@USER#FINGERPRINT to accept this key alone")
  .option("--forget", "pin whatever key is met next")
  .action(async (service: string | undefined, { forget = false }: { forget?: boolean }) => {
    if (service === undefined) {
      const { pins } = await client().call("trusted", {});
      show(pins, (all) => {
        const rows = all.map(({ peer, fingerprint, since, offered }) => [peer, fingerprint, since, offered ?? ""]);
        print(rows.length === 0 ? "no key is pinned yet" : table(["PEER", "PINNED KEY", "SINCE", "NOW OFFERS"], rows));
      });
      return;
    }
    const answer = await client().call("trust", { service, forget });
    show(answer, ({ peer, fingerprint }) =>
      print(fingerprint ? `${peer} is trusted with key ${fingerprint}` : `the key of ${peer} is forgotten`),
    );
  });

program
  .command("invite")
  .description("an invite for another device of yours")
  .option("--lifetime <seconds>", "how long it may be used", count, 86_400)
  .action(async ({ lifetime }: { lifetime: number }) => {
    const answer = await client().call("invite", { lifetimeS: lifetime });
    show(answer, ({ invite }) => print(invite));
  });

program
  .command("devices")
  .description("your devices")
  .action(async () => {
    const { devices } = await client().call("devices", {});
    show(devices, (all) =>
      print(
        table(
          ["DEVICE", "KEY", "SINCE", "STATE"],
          all.map(({ name, fingerprint, created, revoked, present, self }) => [
            self ? `${name} (this one)` : name,
            fingerprint,
            created,
            revoked ? "revoked" : present ? "present" : "away",
          ]),
        ),
      ),
    );
  });

program
  .command("revoke")
  .description("take the right to log in from a device of yours, at once")
  .argument("<fingerprint>", "as 'isthmus devices' shows it")
  .action(async (fingerprint: string) => show(await client().call("revoke", { fingerprint }), () => print("revoked")));

program
  .command("rotate-key")
  .description("change this device's key; peers that pinned the old one follow by its signature")
  .action(async () => {
    const answer = await client().call("rotate", {});
    show(answer, ({ fingerprint }) => print(`the key of this device is now ${fingerprint}`));
  });

program
  .command("probe")
  .description("ask the ISB whether a port of this host can be reached from outside; status 1 if it cannot")
  .argument("<port>", "PORT, or PORT/udp", portName)
  .option("--address <ip>", "where it is thought to be reached: if the ISB sees this host elsewhere, it says so")
  .action(async ({ protocol, port }: PortName, flags: { address?: string }) => {
    const answer = await client().call("probe", { proto: protocol, port, ...flags });
    show(answer, (report) => print(describeProbe(report, port)));
    if (answer.outcome !== "reachable") process.exitCode = 1;
  });

addNatbinder(program, show);

class UsageError extends Error {}

function untilInterrupted(): AbortSignal {
  const controller = new AbortController();
  process.once("SIGINT", () => controller.abort());
  return controller.signal;
}

/** The host's name, as far as it can be a name here. */
function defaultDevice(): string {
  const name = hostname()
    .split(".")[0]!
    .toLowerCase()
    .replaceAll(/[^a-z0-9-]/g, "")
    .replaceAll(/^-+|-+$/g, "");
  return name === "" ? "device" : name.slice(0, 63);
}

// Whoever reads the output may have seen enough of it (`| head`).
process.stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? 0 : 1));

try {
  await program.parseAsync();
} catch (error) {
  const { name, message } = error as Error;
  if (name === "AbortError" || (error instanceof CommanderError && error.exitCode === 0)) process.exitCode = 0;
  else {
    const isUsage = error instanceof UsageError || error instanceof CommanderError;
    const code = error instanceof IsthmusError ? error.code : isUsage ? "usage" : "internal";
    // Commander has said already, in words, what it does not understand, and has stopped reading there.
    if (!(error instanceof CommanderError)) process.stderr.write(`isthmus: ${foreign(message)}\n`);
    if (process.argv.includes("--json"))
      print(JSON.stringify({ error: { code, message: message.replace(/^error: /, "") } }));
    process.exitCode = isUsage ? 2 : 1;
  }
}
