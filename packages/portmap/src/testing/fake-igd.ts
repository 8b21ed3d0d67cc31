import type { Protocol } from "../gateway.ts";
import { childText, escapeXml, type XmlElement } from "../upnp/xml.ts";
import type { FakeEntry, FakeMappings } from "./fake-mappings.ts";
import type { FakeSettings } from "./fake-settings.ts";

/** Seconds that lease 0 becomes with UPnP IGD 2, and the longest. */
const LONGEST_LEASE_S = 604_800;
const FIRST_PORT = 1024;

/** A UPnP fault by its number. */
export class FakeFault {
  readonly number: number;

  constructor(number: number) {
    this.number = number;
  }
}

/** The actions of WANIPConnection, as miniupnpd 2.3.1 answers them. */
export class FakeIgd {
  readonly #settings: FakeSettings;
  readonly #mappings: FakeMappings;
  readonly #ownPort: () => number;

  /** @param ownPort the TCP port that the gateway keeps for itself */
  constructor(settings: FakeSettings, mappings: FakeMappings, ownPort: () => number) {
    this.#settings = settings;
    this.#mappings = mappings;
    this.#ownPort = ownPort;
  }

  /** The arguments of the answer. @throws FakeFault */
  answer(action: string, args: XmlElement, client: string): Record<string, string | number> {
    const fault = this.#settings.faults[action];
    if (fault !== undefined) throw new FakeFault(fault);
    switch (action) {
      case "AddPortMapping":
        this.#add(wantedEntry(args), client);
        return {};
      case "AddAnyPortMapping":
        return { NewReservedPort: this.#addAny(wantedEntry(args), client) };
      case "DeletePortMapping":
        this.#delete(protocolOf(args), Number(childText(args, "NewExternalPort")), client);
        return {};
      case "GetSpecificPortMappingEntry":
        return this.#lookUp(protocolOf(args), Number(childText(args, "NewExternalPort")));
      case "GetGenericPortMappingEntry":
        return this.#entryAt(Number(childText(args, "NewPortMappingIndex")));
      case "GetExternalIPAddress":
        return { NewExternalIPAddress: this.#settings.externalAddress };
      case "GetStatusInfo":
        return { NewConnectionStatus: "Connected", NewLastConnectionError: "ERROR_NONE", NewUptime: 1 };
      default:
        throw new FakeFault(401);
    }
  }

  #add(wanted: Wanted, client: string): void {
    const { settings, existing } = { settings: this.#settings, existing: this.#find(wanted) };
    if (wanted.externalPort === 0) throw new FakeFault(716);
    if (settings.liesAboutConflicts) throw new FakeFault(718);
    if (wanted.externalPort < FIRST_PORT) throw new FakeFault(606);
    if (wanted.protocol === "tcp" && wanted.externalPort === this.#ownPort()) throw new FakeFault(729);
    const internalAddress = wanted.internalAddress || client;
    if (existing && existing.internalAddress !== internalAddress) throw new FakeFault(718);
    if (settings.secureMode && internalAddress !== client) throw new FakeFault(606);
    if (existing && settings.refusesRenewal) throw new FakeFault(718);
    this.#put({ ...wanted, internalAddress }, existing);
  }

  #addAny(wanted: Wanted, client: string): number {
    const taken = this.#find(wanted);
    if (!taken || taken.internalAddress === client) {
      this.#add(wanted, client);
      return wanted.externalPort;
    }
    let externalPort = wanted.externalPort;
    while (this.#mappings.find(wanted.protocol, externalPort)) externalPort++;
    this.#add({ ...wanted, externalPort }, client);
    return externalPort;
  }

  #put(wanted: Wanted & { internalAddress: string }, existing: FakeEntry | undefined): void {
    const { permanentOnly, room, fullFault, forgetsAtOnce, igd } = this.#settings;
    if (permanentOnly && wanted.leaseSeconds !== 0) throw new FakeFault(725);
    if (!existing && this.#mappings.all.length >= room) throw new FakeFault(fullFault);
    if (forgetsAtOnce) return;
    const { leaseSeconds, ...entry } = wanted;
    const seconds = leaseSeconds === 0 ? (igd === 2 ? LONGEST_LEASE_S : Number.POSITIVE_INFINITY) : leaseSeconds;
    this.#mappings.set({ ...entry, expiresAtMs: performance.now() + seconds * 1000 });
  }

  #delete(protocol: Protocol, externalPort: number, client: string): void {
    const entry = this.#mappings.find(protocol, externalPort);
    if (!entry && this.#settings.absentFault !== 0) throw new FakeFault(this.#settings.absentFault);
    if (entry && this.#settings.secureMode && entry.internalAddress !== client) throw new FakeFault(606);
    this.#mappings.delete(protocol, externalPort);
  }

  #lookUp(protocol: Protocol, externalPort: number): Record<string, string | number> {
    if (this.#settings.cannotLookUp) throw new FakeFault(602);
    const entry = this.#mappings.find(protocol, externalPort);
    if (!entry) throw new FakeFault(714);
    return entryArguments(entry);
  }

  #entryAt(index: number): Record<string, string | number> {
    const entries = this.#mappings.all;
    const entry = entries[this.#settings.listsForever ? index % Math.max(1, entries.length) : index];
    if (!entry) throw new FakeFault(713);
    return {
      NewRemoteHost: entry.remoteHost,
      NewExternalPort: entry.externalPort,
      NewProtocol: entry.protocol.toUpperCase(),
      ...entryArguments(entry),
    };
  }

  #find({ protocol, externalPort }: Wanted): FakeEntry | undefined {
    return this.#mappings.find(protocol, externalPort);
  }
}

type Wanted = Omit<FakeEntry, "expiresAtMs" | "nonce"> & { leaseSeconds: number };

function wantedEntry(args: XmlElement): Wanted {
  return {
    protocol: protocolOf(args),
    remoteHost: childText(args, "NewRemoteHost") ?? "",
    externalPort: Number(childText(args, "NewExternalPort")),
    internalPort: Number(childText(args, "NewInternalPort")),
    internalAddress: childText(args, "NewInternalClient") ?? "",
    description: childText(args, "NewPortMappingDescription") ?? "",
    leaseSeconds: Number(childText(args, "NewLeaseDuration")),
  };
}

function protocolOf(args: XmlElement): Protocol {
  const name = childText(args, "NewProtocol");
  if (name !== "TCP" && name !== "UDP") throw new FakeFault(402);
  return name === "TCP" ? "tcp" : "udp";
}

function entryArguments(entry: FakeEntry): Record<string, string | number> {
  const left = (entry.expiresAtMs - performance.now()) / 1000;
  return {
    NewInternalPort: entry.internalPort,
    NewInternalClient: entry.internalAddress,
    NewEnabled: 1,
    NewPortMappingDescription: entry.description,
    NewLeaseDuration: Number.isFinite(left) ? Math.ceil(left) : 0,
  };
}

export function soapAnswer(action: string, values: Record<string, string | number>): string {
  const inner = Object.entries(values).map(([name, value]) => `<${name}>${escapeXml(String(value))}</${name}>`);
  return envelope(
    `<u:${action}Response xmlns:u="urn:schemas-upnp-org:service:WANIPConnection:1">${inner.join("")}</u:${action}Response>`,
  );
}

export function soapFault(number: number | undefined): string {
  const code = number === undefined ? "" : `<errorCode>${number}</errorCode>`;
  return envelope(
    "<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>" +
      `<UPnPError xmlns="urn:schemas-upnp-org:control-1-0">${code}<errorDescription>Fake</errorDescription>` +
      "</UPnPError></detail></s:Fault>",
  );
}

function envelope(body: string): string {
  return `<?xml version="1.0"?>\r\n<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>${body}</s:Body></s:Envelope>`;
}

/** A description with the service where miniupnpd has it: two devices down. */
export function fakeDescription({ igd, hasSecondService }: FakeSettings, device: string): string {
  const service = (path: string) =>
    `<service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:${igd}</serviceType>` +
    `<serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId><controlURL>${path}</controlURL>` +
    "<eventSubURL>/evt</eventSubURL><SCPDURL>/scpd.xml</SCPDURL></service>";
  const services = `${hasSecondService ? service("/disconnected") : ""}${service("/control")}`;
  const inner = (type: string, content: string) =>
    `<device><deviceType>urn:schemas-upnp-org:device:${type}:${igd}</deviceType><friendlyName>Fake &amp; Sons</friendlyName>` +
    `<UDN>${device}</UDN>${content}</device>`;
  return (
    '<?xml version="1.0"?>\r\n<root xmlns="urn:schemas-upnp-org:device-1-0"><specVersion><major>1</major>' +
    "<minor>1</minor></specVersion>" +
    inner(
      "InternetGatewayDevice",
      `<deviceList>${inner("WANDevice", `<deviceList>${inner("WANConnectionDevice", `<serviceList>${services}</serviceList>`)}</deviceList>`)}</deviceList>`,
    ) +
    "</root>"
  );
}
