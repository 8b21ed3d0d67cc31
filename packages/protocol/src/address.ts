import { isIP } from "node:net";
import { z } from "zod";

/** A host (IP address or DNS name) and a port. IPv6 addresses are written in brackets in text. */
export interface HostPort {
  host: string;
  port: number;
}

/** `undefined` when the text is not `host:port` with a port of 1 to 65535. */
export function parseHostPort(text: string): HostPort | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  if (!match) return undefined;
  const host = match[1] ?? match[2]!;
  const port = Number(match[3]);
  if (port < 1 || port > 65535) return undefined;
  if (match[1] !== undefined ? isIP(host) !== 6 : isIP(host) === 0 && !isDnsName(host)) return undefined;
  return { host, port };
}

export function formatHostPort({ host, port }: HostPort): string {
  return isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`;
}

/** RFC 1123 host name of at most 253 characters; a name of digits and dots only would be a mistyped IPv4 address. */
function isDnsName(host: string): boolean {
  return (
    host.length <= 253 &&
    !/^[\d.]+$/.test(host) &&
    /^(?!-)[A-Za-z0-9-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*$/.test(host)
  );
}

export const hostPort = z
  .string()
  .max(270)
  .refine((text) => parseHostPort(text) !== undefined, "not HOST:PORT (an IPv6 address stands in brackets)")
  .meta({ description: "HOST:PORT; an IPv6 address stands in brackets" });

export const port = z.int().min(1).max(65535);

export const ipAddress = z
  .string()
  .max(45)
  .refine((text) => isIP(text) !== 0, "not an IP address")
  .meta({ description: "IPv4 or IPv6 address" });

/**
 * One text for one address: IPv4-mapped IPv6 becomes IPv4, a scope id is dropped, hexadecimal is lower case. Addresses
 * that a socket reports are otherwise canonical already.
 */
export function canonicalIp(address: string): string {
  const plain = address.split("%")[0]!.toLowerCase();
  return plain.startsWith("::ffff:") && isIP(plain.slice(7)) === 4 ? plain.slice(7) : plain;
}

/**
 * What a source address stands for when it is matched against an expected one: an IPv4 address itself, an IPv6
 * address its /64, since a host changes the lower half at will (RFC 8981).
 */
export function sourcePrefix(address: string): string {
  const canonical = canonicalIp(address);
  if (isIP(canonical) !== 6) return canonical;
  const [head = "", tail] = canonical.split("::");
  const left = head === "" ? [] : head.split(":");
  const right = tail === undefined || tail === "" ? [] : tail.split(":");
  const groups = tail === undefined ? left : [...left, ...Array(8 - left.length - right.length).fill("0"), ...right];
  return `${groups.slice(0, 4).join(":")}::/64`;
}

/** A dialled origin: scheme, host and port, without path, exactly as both sides of a login sign it. */
export const origin = z
  .string()
  .max(300)
  .refine((text) => parseOrigin(text) !== undefined, "not ws://HOST:PORT or wss://HOST:PORT")
  .meta({ description: "ws://HOST:PORT or wss://HOST:PORT" });

export function parseOrigin(text: string): (HostPort & { secure: boolean }) | undefined {
  const match = /^(wss?):\/\/(.+)$/.exec(text);
  const address = match && parseHostPort(match[2]!);
  return address ? { ...address, secure: match[1] === "wss" } : undefined;
}

export function isLoopback(host: string): boolean {
  const ip = canonicalIp(host);
  return ip === "::1" || host === "localhost" || /^127\.\d+\.\d+\.\d+$/.test(ip);
}
