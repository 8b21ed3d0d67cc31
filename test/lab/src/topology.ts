import { INTERNET_IPV4 } from "./addresses.ts";
import type { CableOptions } from "./cable.ts";
import { FIREWALLS } from "./firewall.ts";
import type { Home } from "./home.ts";
import type { Lab } from "./lab.ts";
import { NAT_KINDS } from "./nat-kinds.ts";
import type { Node } from "./node.ts";

interface Entry {
  cells: string[];
  below: Entry[];
}

/** A tree: the Internet, its hosts, its homes, and what is behind them. */
export function drawTopology(lab: Lab): string {
  const homes = [...lab.homes.values()];
  const below = [
    ...[...lab.hosts.values()].map((host) => hostEntry(host, host.link.cable.options)),
    ...homes.filter(({ behind }) => !behind).map((home) => homeEntry(home, homes)),
  ];
  const rows = below.flatMap((entry, index) => entryRows(entry, "", index === below.length - 1));
  const width = Math.max(0, ...rows.map(([name]) => name.length));
  return [`Internet ${INTERNET_IPV4}`, ...rows.map(([name, rest]) => `${name.padEnd(width)}  ${rest}`)].join("\n");
}

function hostEntry(node: Node, cable: CableOptions = {}): Entry {
  return { cells: [node.name, ...addressCells(node), ...cableCells(cable)], below: [] };
}

function homeEntry(home: Home, homes: Home[]): Entry {
  const nested = homes.filter(({ behind }) => behind === home);
  const nat = home.nat === "none" ? "router without NAT" : `NAT: ${describeNat(home)}`;
  const firewall = home.firewall === "stateful" ? [] : [FIREWALLS[home.firewall]];
  return {
    cells: [home.name, ...addressCells(home.router), nat, ...firewall, ...cableCells(home.link.cable.options)],
    below: [...home.hosts.map((host) => hostEntry(host)), ...nested.map((inner) => homeEntry(inner, homes))],
  };
}

function describeNat({ nat }: Home): string {
  const { thesis, mapping, filtering, pooling } = NAT_KINDS[nat];
  const name = nat.startsWith(thesis.replaceAll(" ", "-")) ? nat : `${nat} (${thesis})`;
  return `${name}, ${mapping} mapping, ${filtering} filtering${pooling === "paired" ? "" : `, ${pooling} pooling`}`;
}

function addressCells({ addresses }: Node): string[] {
  return [[...addresses.ipv4, ...addresses.ipv6].join(" ")];
}

function cableCells({ delayMs, out, in: into }: CableOptions): string[] {
  const [outMs, inMs] = [out?.delayMs ?? delayMs ?? 0, into?.delayMs ?? delayMs ?? 0];
  if (outMs === 0 && inMs === 0) return [];
  return [outMs === inMs ? `${outMs} ms each way` : `${outMs} ms out, ${inMs} ms in`];
}

function entryRows({ cells, below }: Entry, indent: string, last: boolean): [name: string, rest: string][] {
  const [name, ...rest] = cells;
  const inner = indent + (last ? "    " : "│   ");
  return [
    [`${indent}${last ? "└── " : "├── "}${name}`, rest.join("  ")],
    ...below.flatMap((entry, index) => entryRows(entry, inner, index === below.length - 1)),
  ];
}
