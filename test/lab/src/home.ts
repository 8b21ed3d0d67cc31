import type { Subnet } from "./addresses.ts";
import type { CableOptions } from "./cable.ts";
import { type Firewall, firewallRuleset } from "./firewall.ts";
import type { Lan } from "./lan.ts";
import type { Link } from "./link.ts";
import { type NatKind, natRuleset, WAN_DEVICE } from "./nat-kinds.ts";
import type { Node } from "./node.ts";
import { awaitCarrier, batch, load } from "./script.ts";

export interface HomeOptions extends CableOptions {
  /** Of the router; hosts are called `NAME-1`, `NAME-2` and so on unless they get names of their own. */
  name: string;
  nat: NatKind;
  /** How many hosts, or their names. Default: 1. */
  hosts?: number | string[];
  /** Inner IPv4 subnet; 192.168.1.0/24 in every home unless told otherwise. Public and not to be chosen without NAT. */
  subnet?: string;
  /** Default: `open` without NAT, `stateful` otherwise. */
  firewall?: Firewall;
  /** Public addresses of kind `pool`. Default: 3. */
  poolSize?: number;
  /** Cones only: a flow keeps its own port outside where that is free. Default: true. */
  preservePorts?: boolean;
  /** Cones only: inner hosts reach each other by their public endpoints. Default: false. */
  hairpin?: boolean;
  /** How long the router remembers an idle UDP flow. Default: 120 s (RFC 4787, 4.3). */
  udpTimeoutSeconds?: number;
  /** Default: true. */
  ipv4?: boolean;
  /** A routed /64. Default: false. */
  ipv6?: boolean;
  /** Another home, on whose LAN this router hangs: double NAT, or a carrier's NAT before a home's. */
  behind?: Home;
}

/** A home (or a company, or a carrier): a router with its NAT and firewall, and hosts on its LAN. */
export class Home {
  readonly name: string;
  readonly nat: NatKind;
  readonly firewall: Firewall;
  readonly router: Node;
  readonly hosts: Node[];
  readonly lan: Lan;
  readonly behind: Home | undefined;
  #isOn = false;
  readonly #options: HomeOptions;
  readonly #udpTimeoutSeconds: number;

  constructor(options: HomeOptions, parts: { router: Node; hosts: Node[]; lan: Lan }) {
    this.name = options.name;
    this.nat = options.nat;
    this.firewall = options.firewall ?? (options.nat === "none" ? "open" : "stateful");
    this.behind = options.behind;
    this.router = parts.router;
    this.hosts = parts.hosts;
    this.lan = parts.lan;
    this.#options = options;
    this.#udpTimeoutSeconds = options.udpTimeoutSeconds ?? UDP_TIMEOUT_S;
  }

  /** The only host, or the first. */
  get host(): Node {
    return this.hosts[0]!;
  }

  /** Where the world sees this home, or an empty text without IPv4. Changes with `changeAddress`. */
  get address(): string {
    return this.router.ipv4;
  }

  /** The router's uplink. */
  get link(): Link {
    return this.router.link;
  }

  /** For the router's shell; may be repeated, which is what a restart does. */
  get setUpScript(): string {
    const ports = this.lan.links.flatMap((link) => link.farLines());
    return `
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
[ ! -e /proc/sys/net/bridge/bridge-nf-call-iptables ] || echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables
${load(this.#rulesets)}
for name in udp_timeout udp_timeout_stream; do
  echo ${this.#udpTimeoutSeconds} > /proc/sys/net/netfilter/nf_conntrack_$name
done
${batch(["link set lo up", ...this.lan.bridgeLines, ...ports, ...this.link.nearLines()])}
`;
  }

  /** Power goes: no link anywhere, and the router forgets everything. */
  async powerOff(): Promise<void> {
    this.#isOn = false;
    // Tables of family netdev stay: they are the faults of the links.
    await this.router.script(`
for device in ${this.#devices.join(" ")}; do ip link set $device down; done
${load("flush ruleset ip\nflush ruleset ip6\nflush ruleset inet")}
conntrack -F
`);
  }

  async powerOn(): Promise<void> {
    this.#isOn = true;
    await this.router.script(this.setUpScript + this.#devices.map(awaitCarrier).join("\n"));
  }

  /** The router starts anew: links down for a moment, all flows and mappings gone, same addresses. */
  async restart(): Promise<void> {
    await this.powerOff();
    await this.powerOn();
  }

  /** The router forgets its flows and mappings while it goes on. */
  async forgetFlows(): Promise<void> {
    await this.router.script(`conntrack -F\n${load(this.#rulesets)}`);
  }

  /**
   * The provider gives the router another address, and the old one is nobody's. Also while the router is off.
   *
   * Old flows are either `forgotten`, as by most routers (a flow goes on from the new address as if it were new), or
   * `blackholed`: the router goes on translating them to the old address, and nothing ever comes back.
   */
  async changeAddress(oldFlows: "forgotten" | "blackholed" = "forgotten"): Promise<void> {
    const { router, link } = this;
    const old = router.addresses.ipv4;
    router.addresses.ipv4 = link.upstream.assign(old.length).ipv4;
    const remove = old.map((address) => `addr del ${address}/${this.#wanBits} dev ${WAN_DEVICE}`);
    const forget = oldFlows === "forgotten" ? old.map((address) => `conntrack -D -q ${address} || true`) : [];
    const script = this.#isOn
      ? [batch([...remove, ...link.nearLines()]), load(this.#rulesets), ...forget].join("\n")
      : batch(remove);
    await Promise.all([this.#moveRoutes(old), router.script(script)]);
  }

  get #devices(): string[] {
    return [WAN_DEVICE, ...this.lan.links.map((link) => link.cable.far.device)];
  }

  get #wanBits(): number {
    return this.behind?.lan.subnet?.bits ?? 32;
  }

  /** Behind another home the switch finds the new address by itself. */
  async #moveRoutes(old: string[]): Promise<void> {
    if (this.behind) return;
    const { device } = this.link.cable.far;
    const gone = old.flatMap((address) => [
      `route del ${address}/32 dev ${device}`,
      `neigh del ${address} dev ${device}`,
    ]);
    const lines = this.link.farLines();
    // A link that is down has lost its routes, and gets the new ones with `up`.
    if (lines.length > 0) await this.link.upstream.node.script(batch([...lines, ...gone]));
  }

  get #rulesets(): string {
    const { subnet } = this.lan;
    const filter = firewallRuleset(this.firewall);
    if (!subnet) return filter;
    return filter + this.#natRuleset(subnet);
  }

  #natRuleset(subnet: Subnet): string {
    return natRuleset({
      kind: this.nat,
      publicAddresses: this.router.addresses.ipv4,
      subnet,
      preservePorts: this.#options.preservePorts ?? true,
      hairpin: this.#options.hairpin ?? false,
      timeoutSeconds: this.#udpTimeoutSeconds,
    });
  }
}

const UDP_TIMEOUT_S = 120;
