import { isPort, type Protocol } from "../gateway.ts";
import { PortmapError } from "../portmap-error.ts";

/** A port, as a number or in digits, or a port of one host. */
export type NatUpnpEndpoint = number | string | { host?: string; port: number };

export type NatUpnpCallback<T> = (error: Error | null, result?: T) => void;

export interface PortUnmappingOptions {
  /** Outside. `host` is the only outside host that may use the port. */
  public: NatUpnpEndpoint;
  /** Of either case. @default "TCP" */
  protocol?: string;
}

export interface PortMappingOptions extends PortUnmappingOptions {
  /** Inside. `host` is this host unless given. */
  private: NatUpnpEndpoint;
  /** Seconds, 0 without end. @default 1800 */
  ttl?: number | string;
  /** @default "node:nat:upnp" */
  description?: string;
}

export interface GetMappingsOptions {
  /** Only those that lead to this host. */
  local?: boolean;
  /** Only those whose description contains or matches it. */
  description?: string | RegExp;
}

export interface NatUpnpMapping {
  public: { host: string; port: number };
  private: { host: string; port: number };
  protocol: Protocol;
  enabled: boolean;
  description: string;
  /** Seconds that are left. */
  ttl: number;
  /** It leads to this host. */
  local: boolean;
}

const DEFAULT_TTL_S = 1800;

/** @throws PortmapError `invalid` */
export function toEndpoint(endpoint: NatUpnpEndpoint): { host: string | undefined; port: number } {
  const { host, port } = typeof endpoint === "object" ? endpoint : { host: undefined, port: Number(endpoint) };
  if (!isPort(port)) throw new PortmapError("invalid", "a port is a whole number from 1 to 65535");
  return { host: host === "" ? undefined : host, port };
}

/** @throws PortmapError `invalid` */
export function toProtocol(protocol = "TCP"): Protocol {
  const name = protocol.toLowerCase();
  if (name !== "tcp" && name !== "udp") throw new PortmapError("invalid", "a protocol is tcp or udp");
  return name;
}

export function toSeconds(ttl: number | string | undefined): number {
  const seconds = ttl === undefined || ttl === "" ? Number.NaN : Number(ttl);
  return Number.isInteger(seconds) && seconds >= 0 ? seconds : DEFAULT_TTL_S;
}

export function matches(mapping: NatUpnpMapping, { local = false, description }: GetMappingsOptions): boolean {
  if (local && !mapping.local) return false;
  if (description === undefined) return true;
  return typeof description === "string"
    ? mapping.description.includes(description)
    : mapping.description.search(description) >= 0;
}
