import { isIPv4 } from "node:net";

export const SSDP_GROUP = "239.255.255.250";
export const SSDP_PORT = 1900;

/** Seconds within which devices may spread their answers. UPnP allows no less. */
const ANSWER_SPREAD_S = 1;

/** One datagram holds it all; what is longer is not from a gateway. */
const MOST_BYTES = 4096;
const LONGEST_LOCATION = 512;

/** What a gateway answers to; some devices know only one of them. */
export const SEARCH_TARGETS = [
  "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
  "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
  "urn:schemas-upnp-org:service:WANIPConnection:1",
  "urn:schemas-upnp-org:service:WANPPPConnection:1",
] as const;

export interface SsdpMessage {
  kind: "answer" | "alive" | "byebye" | "update";
  /** The type of device or service that it speaks of: the header ST or NT. */
  type: string;
  /** The device's own name: `uuid:...` of the header USN. */
  device: string;
  /** Of the description, as it was sent. */
  location?: string;
  /** Changes when the device starts anew; absent before UPnP 1.1. */
  bootId?: number;
  /** With `update`: the boot id from now on, though the device did not start anew. */
  nextBootId?: number;
}

export function searchRequest(target: string): string {
  return (
    `M-SEARCH * HTTP/1.1\r\nHOST: ${SSDP_GROUP}:${SSDP_PORT}\r\nMAN: "ssdp:discover"\r\n` +
    `MX: ${ANSWER_SPREAD_S}\r\nST: ${target}\r\n\r\n`
  );
}

/** An answer to a search or an announcement; undefined for everything else. Never throws. */
export function parseSsdpMessage(datagram: Buffer): SsdpMessage | undefined {
  if (datagram.length > MOST_BYTES) return undefined;
  const [first = "", ...lines] = datagram.toString("latin1").split(/\r?\n/);
  const headers = new Map<string, string>();
  for (const line of lines) {
    const colon = line.indexOf(":");
    if (colon > 0) headers.set(line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim());
  }
  const kind = kindOf(first, headers.get("nts"));
  const type = headers.get(kind === "answer" ? "st" : "nt");
  const device = /^uuid:[^:\s]{1,128}/i.exec(headers.get("usn") ?? "")?.[0];
  if (kind === undefined || type === undefined || device === undefined) return undefined;
  const location = headers.get("location");
  const bootId = bootIdOf(headers.get("bootid.upnp.org"));
  const nextBootId = bootIdOf(headers.get("nextbootid.upnp.org"));
  return {
    kind,
    type,
    device,
    ...(location !== undefined && location.length <= LONGEST_LOCATION && { location }),
    ...(bootId !== undefined && { bootId }),
    ...(nextBootId !== undefined && { nextBootId }),
  };
}

/** Whether a message speaks of a gateway, or of the part of one that maps ports. */
export function isOfGateway({ type }: SsdpMessage): boolean {
  return /^urn:schemas-upnp-org:(device:InternetGatewayDevice|service:WAN(IP|PPP)Connection):[1-9]$/.test(type);
}

/**
 * A description's address, if it is one to ask: plain HTTP at the very host that sent the message. Anything else could
 * make this host ask a third one, or itself.
 */
export function checkedLocation(location: string, sender: string): URL | undefined {
  if (!URL.canParse(location)) return undefined;
  const url = new URL(location);
  const isPlain = url.protocol === "http:" && url.username === "" && url.password === "";
  return isPlain && isIPv4(url.hostname) && url.hostname === sender ? url : undefined;
}

function kindOf(first: string, nts: string | undefined): SsdpMessage["kind"] | undefined {
  if (/^HTTP\/1\.[01] 200\b/.test(first)) return "answer";
  if (!/^NOTIFY \* HTTP\/1\.[01]\s*$/.test(first)) return undefined;
  const kind = /^ssdp:(alive|byebye|update)$/.exec(nts ?? "")?.[1];
  return kind as SsdpMessage["kind"] | undefined;
}

function bootIdOf(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,10}$/.test(text) ? Number(text) : undefined;
}
