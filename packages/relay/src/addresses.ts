import { isIP } from "node:net";
import { networkInterfaces } from "node:os";
import { formatHostPort, isLoopback, parseHostPort } from "@isthmus/protocol";

/** An IST declares no more (protocol's `istAddress`). */
const MOST_ADDRESSES = 16;

/** Addresses as daemons are told them: what the operator named, else those of this host, else loopback. */
export function publicAddresses(
  named: readonly string[],
  port: number,
  own: readonly string[] = hostAddresses(),
): string[] {
  const hosts = named.length > 0 ? named : own.length > 0 ? own : ["127.0.0.1", "::1"];
  return [...new Set(hosts.map((text) => withPort(text, port)))].slice(0, MOST_ADDRESSES);
}

/** Whether the address is one of this host's, loopback included. */
export function isOwnAddress(address: string): boolean {
  return (
    isLoopback(address) || Object.values(networkInterfaces()).some((own) => own?.some((one) => one.address === address))
  );
}

function withPort(text: string, port: number): string {
  const bare = /^\[(.*)\]$/.exec(text)?.[1] ?? text;
  if (isIP(bare) === 0 && parseHostPort(text)) return text;
  return formatHostPort({ host: bare, port });
}

/** Addresses of this host that others may reach: no loopback, no link-local. IPv4 first. */
function hostAddresses(): string[] {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  return all
    .filter(({ internal, address }) => !internal && !/^fe[89ab]/i.test(address) && !address.startsWith("169.254."))
    .sort((a, b) => a.family.localeCompare(b.family))
    .map(({ address }) => address);
}
