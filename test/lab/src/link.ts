import type { Cable } from "./cable.ts";
import type { DelayLine, Direction } from "./delay-line.ts";
import { LabError } from "./lab-error.ts";
import { awaitCarrier, batch, load } from "./script.ts";
import type { Upstream } from "./upstream.ts";

type Protocol = "tcp" | "udp" | "icmp";

export interface Loss {
  /** 0 to 100. Of what the kernel hands over: on a plain cable a large TCP segment is many packets of a real wire. */
  percent: number;
  /** Default: both. `out` is away from the node. */
  direction?: Direction;
  protocol?: Protocol;
}

/** Packets that vanish without a word. */
export interface Block {
  /** The remote side's address. */
  address?: string;
  /** The remote side's port. */
  port?: number;
  protocol?: Protocol;
  /** Default: both. */
  direction?: Direction;
}

/** The attachment of a node (a host, or a home's router) to its upstream, with its faults. */
export class Link {
  readonly cable: Cable;
  readonly upstream: Upstream;
  /** Public subnets behind the node, to which the upstream has to know the way. */
  readonly subnets: string[] = [];
  #isUp = true;
  #losses: Loss[] = [];
  #blocks: Block[] = [];

  constructor(cable: Cable, upstream: Upstream) {
    this.cable = cable;
    this.upstream = upstream;
  }

  /** Where the link was made with a delay: to change it, or to read what it lost. @throws LabError otherwise */
  get delayLine(): DelayLine {
    if (this.cable.delayLine) return this.cable.delayLine;
    throw new LabError(`the link of ${this.cable.near.node.name} was made without a delay`);
  }

  /** What makes the link work, on the node's side; for `ip -batch`. */
  nearLines(): string[] {
    const { cable } = this;
    const { addresses } = cable.near.node;
    return [...cable.deviceLines(cable.near), ...this.upstream.nearLines(cable.near, cable.far, addresses)];
  }

  /** The same for the upstream's side; nothing while the link is down. */
  farLines(): string[] {
    if (!this.#isUp) return [];
    const { cable } = this;
    const { addresses } = cable.near.node;
    return [
      ...cable.deviceLines(cable.far),
      ...this.upstream.farLines(cable.near, cable.far, addresses),
      ...this.subnets.map((subnet) => {
        const [gateway] = subnet.includes(":") ? addresses.ipv6 : addresses.ipv4;
        return `route replace ${subnet} via ${gateway} dev ${cable.far.device} onlink`;
      }),
    ];
  }

  /** The cable is pulled out of the upstream: the node sees its carrier go (but not over a delay line). */
  async down(): Promise<void> {
    this.#isUp = false;
    await this.upstream.node.script(`ip link set ${this.cable.far.device} down`);
  }

  /** Resolves when packets pass. */
  async up(): Promise<void> {
    this.#isUp = true;
    const { near, far } = this.cable;
    await Promise.all([
      far.node.script(`${batch(this.farLines())}\n${awaitCarrier(far.device)}`),
      near.node.script(awaitCarrier(near.device)),
    ]);
  }

  /** Loses packets at random until `heal`; losses and blocks add up. */
  async loss(loss: Loss): Promise<void> {
    this.#losses.push(loss);
    await this.#applyFaults();
  }

  /** Drops silently what goes to (and comes from) a remote side until `heal`. */
  async block(block: Block): Promise<void> {
    this.#blocks.push(block);
    await this.#applyFaults();
  }

  /** Ends all losses and blocks. */
  async heal(): Promise<void> {
    this.#losses = [];
    this.#blocks = [];
    await this.#applyFaults();
  }

  /** Packets that losses and blocks have dropped since the last change of them. */
  async dropped(): Promise<number> {
    const { stdout } = await this.upstream.node.run("nft", ["list", "table", "netdev", this.#table]);
    return [...stdout.matchAll(/counter packets (\d+)/g)].reduce((sum, [, packets]) => sum + Number(packets), 0);
  }

  get #table(): string {
    return `faults-${this.cable.far.device}`;
  }

  /** At the upstream's end, before it looks at the packet: no program on the node can see to it first. */
  async #applyFaults(): Promise<void> {
    const { device } = this.cable.far;
    const rules = (direction: Direction) => [
      ...this.#blocks
        .filter((block) => (block.direction ?? direction) === direction)
        .map((block) => blockRule(block, direction)),
      ...this.#losses.filter((loss) => (loss.direction ?? direction) === direction).map(lossRule),
    ];
    const ruleset = `add table netdev ${this.#table}
delete table netdev ${this.#table}
table netdev ${this.#table} {
  chain from_node {
    type filter hook ingress device "${device}" priority filter
    ${rules("out").join("\n    ")}
  }
  chain to_node {
    type filter hook egress device "${device}" priority filter
    ${rules("in").join("\n    ")}
  }
}`;
    await this.upstream.node.script(load(ruleset));
  }
}

function protocolMatch(protocol: Protocol | undefined): string {
  if (protocol === undefined) return "meta protocol { ip, ip6 }";
  return protocol === "icmp" ? "meta l4proto { icmp, ipv6-icmp }" : `meta l4proto ${protocol}`;
}

function blockRule({ address, port, protocol }: Block, direction: Direction): string {
  const side = direction === "out" ? { address: "daddr", port: "dport" } : { address: "saddr", port: "sport" };
  const family = address?.includes(":") ? "ip6" : "ip";
  // A port means nothing without one of the two protocols.
  const match = port !== undefined && protocol === undefined ? "meta l4proto { tcp, udp }" : protocolMatch(protocol);
  const addressMatch = address === undefined ? "" : `${family} ${side.address} ${address}`;
  const portMatch = port === undefined ? "" : `th ${side.port} ${port}`;
  return `${match} ${addressMatch} ${portMatch} counter drop`;
}

/** Shares of a million, so that small losses can be told. */
const LOSS_SCALE = 1_000_000;

function lossRule({ percent, protocol }: Loss): string {
  if (!(percent >= 0 && percent <= 100)) throw new LabError(`no loss of ${percent} percent`);
  const share = Math.round((percent / 100) * LOSS_SCALE);
  const chance = share < LOSS_SCALE ? `numgen random mod ${LOSS_SCALE} < ${share}` : "";
  return `${protocolMatch(protocol)} ${chance} counter drop`;
}
