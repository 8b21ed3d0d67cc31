import { PortmapError } from "./portmap-error.ts";

export const PROTOCOLS = ["tcp", "udp"] as const;
export type Protocol = (typeof PROTOCOLS)[number];

/** The protocols that gateways speak, in the order in which they are preferred; README.md says why. */
export const GATEWAY_KINDS = ["upnp", "pcp", "nat-pmp"] as const;
export type GatewayKind = (typeof GATEWAY_KINDS)[number];

/** Bounds one call. */
export interface CallOptions {
  /** Ends the call with `aborted`. What was already sent may still take effect on the gateway. */
  signal?: AbortSignal;
  /** For the whole call, however many questions it takes. @default 3000 */
  timeoutMs?: number;
  /**
   * Ends the call with `aborted` as long as it has had no effect; the error is `untouched` then. What has been asked for
   * goes on. UPnP only.
   */
  withdraw?: AbortSignal;
  /**
   * Nobody waits for it: calls that are not of the background go before it where the gateway is busy, for a second, and then
   * every other one. UPnP only.
   * @default false
   */
  background?: boolean;
}

export interface MapRequest {
  protocol: Protocol;
  /** Where the program listens: 1 to 65535. */
  internalPort: number;
  /** The port wanted outside: 1 to 65535. @default internalPort */
  externalPort?: number;
  /** Take any port that the gateway gives instead of failing. @default false */
  anyPort?: boolean;
  /** Seconds; 0 asks for a mapping without end, which many gateways make one of seven days. */
  lifetimeSeconds: number;
  /** For people, in the gateway's own list; cut to 64 characters. Only UPnP carries it. @default "isthmus" */
  description?: string;
  /** Whom the port leads to, where that is not the host that asks. UPnP only, and most gateways refuse. */
  internalAddress?: string;
}

/** One entry of the gateway. */
export interface Mapping {
  protocol: Protocol;
  externalPort: number;
  internalAddress: string;
  internalPort: number;
  /** Seconds that are left (for a new mapping: granted), 0 without end. */
  lifetimeSeconds: number;
  /** What its owner called it, as UPnP knows it; control characters taken out. */
  description: string;
  enabled: boolean;
  /** The outside host that alone may use it, or an empty text for all. */
  remoteHost: string;
}

/** What names a mapping. PCP and NAT-PMP go by the internal port, UPnP by the external one. */
export interface MappingKey {
  protocol: Protocol;
  externalPort: number;
  /** @default externalPort */
  internalPort?: number;
}

export interface GatewayCapabilities {
  /** `lookUp` works: whose port it is can be said, and a `conflict` is a proven one. */
  lookUp: boolean;
  list: boolean;
}

/** What a gateway lets one notice while it is talked to. */
export type GatewaySign =
  /** It has lost what it knew: every mapping has to be made again. */
  { sign: "restarted"; why: "epoch" } | { sign: "address"; address: string };

/** A router that maps ports, by one protocol. Every call rejects with {@link PortmapError} alone. */
export interface Gateway {
  readonly kind: GatewayKind;
  /** The router's own address on this network. */
  readonly address: string;
  readonly capabilities: GatewayCapabilities;
  /**
   * Makes a mapping, or renews it. Another host's mapping is never taken over.
   * @throws PortmapError `conflict` when another host has the port, `other-port` where the protocol cannot tell
   */
  map(request: MapRequest, options?: CallOptions): Promise<Mapping>;
  /**
   * Takes a mapping of this host away; no error when there is none.
   * @throws PortmapError `conflict` when it is another host's
   */
  unmap(key: MappingKey, options?: CallOptions): Promise<void>;
  /** @throws PortmapError `unsupported` by PCP and NAT-PMP */
  lookUp(key: MappingKey, options?: CallOptions): Promise<Mapping | undefined>;
  /** Everybody's mappings. @throws PortmapError `unsupported` by PCP and NAT-PMP */
  list(options?: CallOptions): Promise<Mapping[]>;
  /** Where the world sees this network, as the gateway knows it: another NAT may follow. */
  externalAddress(options?: CallOptions): Promise<string>;
  /** The cheapest question that shows that the gateway is there; the external address where the answer tells it. */
  probe(options?: CallOptions): Promise<string | undefined>;
}

/** The longest lease that is asked for by itself; RFC 6887 leaves it open, UPnP IGD 2 ends at seven days. */
const LONGEST_LIFETIME_S = 604_800;

/** A request with its defaults filled in. @throws PortmapError `invalid` */
export function checkedRequest(
  request: MapRequest,
): Required<Omit<MapRequest, "internalAddress">> & { internalAddress: string | undefined } {
  const {
    protocol,
    internalPort,
    externalPort = internalPort,
    anyPort = false,
    lifetimeSeconds,
    description = "isthmus",
    internalAddress,
  } = request;
  checkKey({ protocol, externalPort, internalPort });
  if (!Number.isInteger(lifetimeSeconds) || lifetimeSeconds < 0 || lifetimeSeconds > LONGEST_LIFETIME_S) {
    throw new PortmapError("invalid", `a lifetime is a whole number of seconds up to ${LONGEST_LIFETIME_S}`);
  }
  return { protocol, internalPort, externalPort, anyPort, lifetimeSeconds, description, internalAddress };
}

/** @throws PortmapError `invalid` */
export function checkKey({ protocol, externalPort, internalPort = externalPort }: MappingKey): void {
  if (!PROTOCOLS.includes(protocol)) throw new PortmapError("invalid", "a protocol is tcp or udp");
  if (!isPort(externalPort) || !isPort(internalPort)) {
    throw new PortmapError("invalid", "a port is a whole number from 1 to 65535");
  }
}

export function isPort(value: number): boolean {
  return Number.isInteger(value) && value >= 1 && value <= 65_535;
}
