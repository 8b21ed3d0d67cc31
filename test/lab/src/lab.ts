import { mkdirSync, readdirSync, readlinkSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { DEFAULT_SUBNET, homePrefix, publicSubnet, Subnet } from "./addresses.ts";
import { Cable, type CableEnd, type CableOptions } from "./cable.ts";
import { commandOutput } from "./command.ts";
import { Home, type HomeOptions } from "./home.ts";
import { Internet } from "./internet.ts";
import { LabError } from "./lab-error.ts";
import { LAN_DEVICE, Lan } from "./lan.ts";
import { Link } from "./link.ts";
import { WAN_DEVICE } from "./nat-kinds.ts";
import { Node } from "./node.ts";
import { awaitCarrier, batch } from "./script.ts";
import { checkTools } from "./tools.ts";
import { drawTopology } from "./topology.ts";
import type { Upstream } from "./upstream.ts";
import { NETNS_FOLDER, requireLab, WORLD_FOLDER } from "./world.ts";

export interface HostOptions extends CableOptions {
  /** Public addresses of each family. Default: 1. */
  addresses?: number;
  /** Default: true. */
  ipv4?: boolean;
  /** Default: true. */
  ipv6?: boolean;
}

/** Linux allows 15 characters for a device, and a port is called `v-NAME`. */
const NODE_NAME = /^[a-z][a-z0-9-]{0,12}$/;

const HOST_DEVICE = "eth0";
const POOL_SIZE = 3;

/** Above what the kernel counts to by itself in any namespace of a lab. */
const FIRST_INDEX = 1000;

/** Of processes that a killed namespace still holds. */
const DEATH_DEADLINE_MS = 10_000;
const DEATH_POLL_MS = 2;

/** Namespaces, links and programs that stand for an Internet with public hosts and with homes behind routers. */
export class Lab {
  readonly internet: Internet;
  readonly nodes = new Map<string, Node>();
  readonly hosts = new Map<string, Node>();
  readonly homes = new Map<string, Home>();
  readonly #prefix: string;
  readonly #folder: string;
  readonly #cables: Cable[] = [];
  #nextIndex = FIRST_INDEX;
  #destroyed: Promise<void> | undefined;

  private constructor(number: number) {
    this.#prefix = `${number}-`;
    this.#folder = labFolder(number);
    this.internet = new Internet(this.#newNode("internet"));
  }

  /** A lab with nothing but its Internet. @throws LabError outside a private world, or when a tool is missing */
  static async create(): Promise<Lab> {
    requireLab();
    checkTools();
    const lab = new Lab(claimNumber());
    await lab.#build([lab.internet.node], []);
    await lab.internet.node.script(lab.internet.setUpScript);
    return lab;
  }

  /** A public host. */
  async host(name: string, options: HostOptions = {}): Promise<Node> {
    const node = this.#newNode(name);
    const assigned = this.internet.assign(options.addresses ?? 1);
    if (options.ipv4 !== false) node.addresses.ipv4 = assigned.ipv4;
    if (options.ipv6 !== false) node.addresses.ipv6 = assigned.ipv6;
    const link = this.#newLink(node, HOST_DEVICE, this.internet, options);
    await this.#build([node], [link.cable]);
    await Promise.all([node.script(hostScript(link)), link.up()]);
    this.hosts.set(name, node);
    return node;
  }

  /** A router with its NAT, and hosts behind it. */
  async home(options: HomeOptions): Promise<Home> {
    const { behind } = options;
    const upstream = behind?.lan ?? this.internet;
    const router = this.#newNode(options.name);
    const hosts = hostNames(options).map((name) => this.#newNode(name));
    const assigned = upstream.assign(options.nat === "pool" ? (options.poolSize ?? POOL_SIZE) : 1);
    if (options.ipv4 !== false) router.addresses.ipv4 = assigned.ipv4;
    if (options.ipv6) router.addresses.ipv6 = assigned.ipv6;

    const lan = newLan(router, options, this.homes.size + 1);
    const link = this.#newLink(router, WAN_DEVICE, upstream, options);
    if (options.nat === "none" && lan.subnet) link.subnets.push(lan.subnet.text);
    if (lan.prefix) link.subnets.push(`${lan.prefix}::/64`);
    const hostLinks = hosts.map((host) => {
      Object.assign(host.addresses, lan.assign(1));
      return this.#newLink(host, HOST_DEVICE, lan, {});
    });
    const home = new Home(options, { router, hosts, lan });
    this.homes.set(options.name, home);

    await this.#build(
      [router, ...hosts],
      [link.cable, ...hostLinks.map(({ cable }) => cable)],
      [`link add ${LAN_DEVICE} netns ${router.netns} type bridge mcast_snooping 0`],
    );
    await Promise.all([home.powerOn(), link.up(), ...hosts.map((host) => host.script(hostScript(host.link)))]);
    return home;
  }

  /** @throws LabError when there is none of that name */
  node(name: string): Node {
    const node = this.nodes.get(name);
    if (!node) throw new LabError(`the lab has no ${name}`);
    return node;
  }

  /** The lab as a drawing for people. */
  topology(): string {
    return drawTopology(this);
  }

  /**
   * Ends all programs and takes everything away. May be called again.
   * @throws LabError, after that, when a program had ended by itself that was expected to live
   */
  destroy(): Promise<void> {
    this.#destroyed ??= this.#destroy();
    return this.#destroyed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.destroy();
  }

  async #destroy(): Promise<void> {
    const nodes = [...this.nodes.values()];
    const delayLines = this.#cables.flatMap(({ delayLine }) => delayLine ?? []);
    const ends = [...nodes.flatMap(({ programs }) => programs), ...delayLines].flatMap(
      (one) => one.unexpectedEnd ?? [],
    );
    await Promise.all(nodes.map((node) => node.stopAll()));
    const namespaces = readdirSync(NETNS_FOLDER).filter((name) => name.startsWith(this.#prefix));
    await killInhabitants(namespaces);
    await Promise.all(delayLines.map((line) => line.destroy()));
    await commandOutput("ip", ["-batch", "-"], { input: namespaces.map((name) => `netns del ${name}\n`).join("") });
    rmSync(this.#folder, { recursive: true });
    if (ends.length > 0) throw new LabError(ends.map(({ message }) => message).join("\n"));
  }

  #newNode(name: string): Node {
    if (!NODE_NAME.test(name)) throw new LabError(`'${name}' is no name for a node: at most 13 of a-z, 0-9 and -`);
    if (this.nodes.has(name)) throw new LabError(`the lab already has a ${name}`);
    const node = new Node({ name, netns: this.#prefix + name, folder: join(this.#folder, name) });
    this.nodes.set(name, node);
    return node;
  }

  #newLink(node: Node, device: string, upstream: Upstream, options: CableOptions): Link {
    const cable = new Cable(this.#newEnd(node, device), this.#newEnd(upstream.node, `v-${node.name}`), options);
    this.#cables.push(cable);
    node.link = new Link(cable, upstream);
    upstream.links.push(node.link);
    return node.link;
  }

  #newEnd(node: Node, device: string): CableEnd {
    const index = this.#nextIndex++;
    const digits = index.toString(16).padStart(4, "0");
    return { node, device, index, mac: `02:15:74:00:${digits.slice(0, 2)}:${digits.slice(2)}` };
  }

  /** Few processes for many things: one `ip` for all namespaces and plain cables. */
  async #build(nodes: Node[], cables: Cable[], more: string[] = []): Promise<void> {
    const lines = [
      ...nodes.map(({ netns }) => `netns add ${netns}`),
      ...cables.flatMap(({ batchLines }) => batchLines),
      ...more,
    ];
    await commandOutput("ip", ["-batch", "-"], { input: lines.join("\n") });
    await Promise.all(cables.map((cable) => cable.startDelayLine()));
  }
}

function hostScript(link: Link): string {
  // Any user may ping, as on every usual distribution.
  return `
echo "0 2147483647" > /proc/sys/net/ipv4/ping_group_range
${batch(["link set lo up", ...link.nearLines()])}
${awaitCarrier(HOST_DEVICE)}
`;
}

function hostNames({ name, hosts = 1 }: HomeOptions): string[] {
  return typeof hosts === "number" ? Array.from({ length: hosts }, (_, index) => `${name}-${index + 1}`) : hosts;
}

function newLan(router: Node, options: HomeOptions, number: number): Lan {
  const { nat, behind, ipv4 = true, ipv6 = false } = options;
  if (nat === "none" && options.subnet)
    throw new LabError("a home without NAT gets a public subnet, not one of choice");
  if (behind && nat === "none") throw new LabError("a router behind a router needs a NAT");
  if (behind && ipv6) throw new LabError("a router behind a router gets no IPv6 prefix");
  if (!ipv4 && nat !== "none") throw new LabError("a NAT needs IPv4");
  const subnet = new Subnet(options.subnet ?? (nat === "none" ? publicSubnet(number) : DEFAULT_SUBNET));
  if (behind?.lan.subnet?.overlaps(subnet)) {
    throw new LabError(`${router.name} has the same subnet inside and outside: give one of the two homes another`);
  }
  return new Lan(router, { ...(ipv4 && { subnet }), ...(ipv6 && { prefix: homePrefix(number) }) });
}

function labFolder(number: number): string {
  return join(WORLD_FOLDER, String(number));
}

/** Several labs can share a world: each has a number of its own. */
function claimNumber(): number {
  for (let number = 1; ; number++) {
    try {
      mkdirSync(labFolder(number), { mode: 0o755 });
      return number;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
  }
}

/** Kills whatever still runs in the namespaces, daemons that left their parents included, and waits until it is gone. */
async function killInhabitants(namespaces: string[]): Promise<void> {
  const inodes = new Set(namespaces.map((name) => statSync(join(NETNS_FOLDER, name)).ino));
  const deadline = Date.now() + DEATH_DEADLINE_MS;
  for (;;) {
    const inhabitants = readdirSync("/proc").filter((entry) => /^\d+$/.test(entry) && inodes.has(netnsOf(entry)));
    if (inhabitants.length === 0) return;
    if (Date.now() > deadline) throw new LabError(`processes ${inhabitants.join(", ")} do not die`);
    for (const pid of inhabitants) kill(Number(pid));
    // Strangers' deaths are told to nobody here.
    await new Promise((resolve) => setTimeout(resolve, DEATH_POLL_MS));
  }
}

function netnsOf(pid: string): number {
  try {
    return Number(/\d+/.exec(readlinkSync(`/proc/${pid}/ns/net`))?.[0]);
  } catch {
    return Number.NaN;
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}
