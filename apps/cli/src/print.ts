import { stripVTControlCharacters, styleText } from "node:util";
import { formatHostPort, type LocalApiReply } from "@isthmus/protocol";

type Status = LocalApiReply<"status">;
type Subscription = Status["subscriptions"][number];
type Service = Status["services"][number];

/** Colours on a terminal alone. */
function paint(format: Parameters<typeof styleText>[0], text: string): string {
  return process.stdout.isTTY ? styleText(format, text) : text;
}

const GOOD = new Set(["up", "active", "offered", "present", "yes"]);
const BAD = new Set(["failed", "refused", "down", "gone"]);

function paintState(state: string): string {
  return GOOD.has(state) ? paint("green", state) : BAD.has(state) ? paint("red", state) : paint("yellow", state);
}

export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** A text that somebody else wrote: it must not steer the terminal. */
export function foreign(text: string): string {
  return text.replace(/\p{Cc}/gu, "?");
}

/** Columns as wide as their widest cell; the head is left out when there are no rows. */
export function table(head: string[], rows: string[][]): string {
  if (rows.length === 0) return "";
  const width = (text: string): number => stripVTControlCharacters(text).length;
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => width(row[column] ?? ""))));
  const line = (cells: string[]): string =>
    cells
      .map((cell, column) => cell + " ".repeat(Math.max(0, widths[column]! - width(cell))))
      .join("  ")
      .trimEnd();
  return [paint("bold", line(head)), ...rows.map(line)].join("\n");
}

export function describeService({
  name,
  owner,
  channels,
  allow,
  anyone,
  state,
  message,
  subscribers,
  connections,
}: Service): string[] {
  const targets = channels
    .map(({ id, proto, target, opener }) => `${id}/${proto} ${target ?? `(opened by the ${opener})`}`)
    .join(", ");
  const users = anyone ? "anyone" : allow.length > 0 ? allow.join(", ") : "own devices only";
  return [
    owner ? `${name}@${owner}` : name,
    paintState(state) + (message ? ` (${foreign(message)})` : ""),
    targets,
    users,
    String(subscribers),
    String(connections),
  ];
}

export const SERVICE_HEAD = ["SERVICE", "STATE", "WHERE", "WHO MAY USE IT", "SUBSCRIBERS", "CONNECTIONS"];

/** How open connections are spliced at cells, in parentheses; nothing when none is. */
function spliced({ passive, pure }: Subscription["splices"]): string {
  const counts = Object.entries({ passive, pure }).filter(([, count]) => count > 0);
  return counts.length === 0 ? "" : ` (${counts.map(([mode, count]) => `${count} ${mode}`).join(", ")})`;
}

export function describeSubscription({
  service,
  user,
  state,
  message,
  listen,
  tcp,
  udp,
  connections,
  splices,
}: Subscription): string[] {
  const addresses = listen.map(({ proto, address }) => `${address}/${proto}`).join(", ");
  const paths = [
    ...new Set([
      tcp.path + spliced(splices),
      ...(listen.some(({ proto }) => proto === "udp") ? [`udp: ${udp.path}`] : []),
    ]),
  ].join(", ");
  return [
    `${service}@${user}`,
    paintState(state) + (message ? ` (${foreign(message)})` : ""),
    addresses,
    paths,
    String(connections),
  ];
}

export const SUBSCRIPTION_HEAD = ["SUBSCRIPTION", "STATE", "USE IT AT", "PATH", "CONNECTIONS"];

/** What the ISB saw of a port, in a sentence. */
export function describeProbe({ address, outcome }: LocalApiReply<"probe">, port: number): string {
  const where = formatHostPort({ host: address, port });
  switch (outcome) {
    case "reachable":
      return `${where} is reachable: a connection came through`;
    case "refused":
      return `${where} refuses connections: nobody listens there, or something before it refuses`;
    case "timeout":
      return `${where} does not answer: no mapping leads here, or a firewall is in between`;
    case "unreachable":
      return `${where} cannot be reached: the network says that there is no way`;
    case "other-address":
      return `the ISB sees this host at ${address}: another NAT (CGNAT or double NAT) or another way out is in between`;
    case "unprovable":
      return `${where} over UDP cannot be told: nobody but the program itself could answer a datagram`;
  }
}

export function printStatus(status: Status): void {
  const { device, isb, reachable, ists, services, subscriptions, cipher } = status;
  const who = device.user ? `${device.user}, device ${device.name ?? "?"}` : "not logged in";
  print(`${paint("bold", "device")}    ${who}`);
  print(`${paint("bold", "key")}       ${device.fingerprint}`);
  if (isb) {
    const detail =
      isb.state === "up"
        ? `seen as ${isb.observed}${isb.rttMs === undefined ? "" : `, ${isb.rttMs} ms`}`
        : foreign(isb.message ?? "");
    print(`${paint("bold", "ISB")}       ${isb.origin} ${paintState(isb.state)} ${detail}`.trimEnd());
  } else print(`${paint("bold", "ISB")}       none: 'isthmus login INVITE'`);
  for (const ist of ists)
    print(
      `${paint("bold", "IST")}       ${ist.name} ${ist.origin} ${paintState(ist.state)} ${foreign(ist.message ?? "")}`.trimEnd(),
    );
  print(
    `${paint("bold", "reachable")} ${paintState(reachable.state)} ${reachable.address ?? reachable.message ?? ""}`.trimEnd(),
  );
  if (cipher !== "native")
    print(`${paint("bold", "note")}      encryption runs in ${cipher}, which is slower: build packages/native`);
  if (services.length > 0)
    print(
      `\n${table(
        SERVICE_HEAD,
        services.map((service) => describeService({ ...service, owner: device.user })),
      )}`,
    );
  if (subscriptions.length > 0) print(`\n${table(SUBSCRIPTION_HEAD, subscriptions.map(describeSubscription))}`);
}

/** Which way a subscription's bytes take, what else was tried, and why it lost. */
export function printExplanation(subscription: Subscription): void {
  const { service, user, state, message, tcp, udp, fingerprint, grantExpires, plain, listen, splices } = subscription;
  print(`${service}@${user}: ${paintState(state)}${message ? ` (${foreign(message)})` : ""}`);
  if (fingerprint) print(`  provider's key   ${fingerprint}`);
  print(`  data             ${plain ? "not encrypted (--plain)" : "encrypted end to end"}`);
  if (listen.some(({ proto }) => proto === "tcp")) {
    print(`  connections      ${tcp.path}${spliced(splices)}: ${tcp.detail}`);
  }
  if (listen.some(({ proto }) => proto === "udp")) print(`  datagrams        ${udp.path}: ${udp.detail}`);
  for (const { path, outcome } of tcp.tried) print(`  tried ${path.padEnd(10)} ${outcome}`);
  if (grantExpires) print(`  grant until      ${grantExpires}`);
}
