import { PortmapError } from "../portmap-error.ts";
import { printable } from "../printable.ts";
import { child, childText, parseXml, type XmlElement } from "./xml.ts";

const LONGEST_NAME = 64;
/** Services in all; a gateway has one or two. */
const MOST_SERVICES = 16;

export interface WanService {
  /** As it is written in calls: `urn:schemas-upnp-org:service:WANIPConnection:1`. */
  type: string;
  version: number;
  controlUrl: URL;
}

export interface Description {
  /** For people. */
  name: string;
  /** The services that map ports, the newest first, PPP last. Never empty. */
  services: WanService[];
}

/**
 * A device's description.
 * @throws PortmapError `malformed`, or `unsupported` when nothing in it maps ports
 */
export function parseDescription(text: string, location: URL): Description {
  const root = child(parseXml(text), "root");
  const device = child(root, "device");
  if (!device) throw new PortmapError("malformed", "the gateway's description has no device");
  const base = baseUrl(childText(root, "URLBase"), location);
  const services = [...wanServices(device, base, location)].slice(0, MOST_SERVICES).sort((a, b) => rank(b) - rank(a));
  if (services.length === 0) throw new PortmapError("unsupported", "the gateway offers no service that maps ports");
  return { name: printable(childText(device, "friendlyName") ?? "", LONGEST_NAME), services };
}

/** Services of a device and of those inside it. */
function* wanServices(device: XmlElement, base: URL, location: URL): Generator<WanService> {
  for (const service of child(device, "serviceList")?.children.get("service") ?? []) {
    const type = childText(service, "serviceType") ?? "";
    const version = Number(/^urn:schemas-upnp-org:service:WAN(?:IP|PPP)Connection:([1-9])$/.exec(type)?.[1]);
    const controlUrl = resolve(childText(service, "controlURL"), base, location);
    if (version >= 1 && controlUrl) yield { type, version, controlUrl };
  }
  for (const inner of child(device, "deviceList")?.children.get("device") ?? []) {
    yield* wanServices(inner, base, location);
  }
}

/** Only the host that sent the description may be asked. */
function resolve(path: string | undefined, base: URL, location: URL): URL | undefined {
  if (!path || !URL.canParse(path, base.href)) return undefined;
  const url = new URL(path, base);
  return url.protocol === "http:" && url.hostname === location.hostname ? url : undefined;
}

/** UPnP 1.0 has an own element for it, which some gateways fill with a wrong host. */
function baseUrl(text: string | undefined, location: URL): URL {
  if (!text || !URL.canParse(text)) return location;
  const url = new URL(text);
  return url.hostname === location.hostname ? url : location;
}

function rank({ type, version }: WanService): number {
  return version + (type.includes("PPP") ? 0 : 10);
}
