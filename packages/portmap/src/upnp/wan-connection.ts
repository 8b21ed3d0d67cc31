import { isIPv4 } from "node:net";
import type { Mapping, Protocol } from "../gateway.ts";
import { PortmapError } from "../portmap-error.ts";
import { printable } from "../printable.ts";
import { CallLimit, type CallTurn } from "./call-limit.ts";
import type { WanService } from "./description.ts";
import { httpRequest } from "./http.ts";
import { parseSoapAnswer, type SoapArguments, soapCall } from "./soap.ts";
import { childText, type XmlElement } from "./xml.ts";

const MOST_ANSWER_BYTES = 32_768;
const LONGEST_DESCRIPTION = 64;
const LONGEST_HOST = 64;
const MOST_SECONDS = 0xff_ff_ff_ff;

/** What bounds a call: when it may start, and until when it may take. */
export type CallBounds = CallTurn & { signal: AbortSignal };

/** A mapping as the gateway is asked for it. */
export interface WantedEntry {
  remoteHost: string;
  protocol: Protocol;
  externalPort: number;
  internalPort: number;
  /** Where the port leads to. @default the own address on the way to the gateway */
  internalAddress: string | undefined;
  description: string;
  lifetimeSeconds: number;
}

/** The actions of a service WANIPConnection or WANPPPConnection, as they are: one call each, no judgement. */
export class WanConnection {
  readonly service: WanService;
  readonly #bindTo: string | undefined;
  readonly #limit = new CallLimit();
  #localAddress: string;

  /** @param localAddress of a connection to this gateway; @param bindTo the own address to ask from */
  constructor(service: WanService, localAddress: string, bindTo?: string) {
    this.service = service;
    this.#localAddress = localAddress;
    this.#bindTo = bindTo;
  }

  /** The own address on the way to the gateway, as of the newest call. */
  get localAddress(): string {
    return this.#localAddress;
  }

  async addPortMapping(entry: WantedEntry, bounds: CallBounds): Promise<void> {
    await this.#call("AddPortMapping", (local) => addArguments(entry, local), bounds);
  }

  /** WANIPConnection:2. The port that was given. */
  async addAnyPortMapping(entry: WantedEntry, bounds: CallBounds): Promise<number> {
    const answer = await this.#call("AddAnyPortMapping", (local) => addArguments(entry, local), bounds);
    return numberIn(answer, "NewReservedPort", 1, 65_535);
  }

  async deletePortMapping(key: EntryKey, bounds: CallBounds): Promise<void> {
    await this.#call("DeletePortMapping", () => keyArguments(key), bounds);
  }

  async getSpecificPortMappingEntry(key: EntryKey, bounds: CallBounds): Promise<Mapping> {
    const answer = await this.#call("GetSpecificPortMappingEntry", () => keyArguments(key), bounds);
    const { protocol, externalPort, remoteHost = "" } = key;
    return { protocol, externalPort, remoteHost, ...entryValues(answer) };
  }

  async getGenericPortMappingEntry(index: number, bounds: CallBounds): Promise<Mapping> {
    const answer = await this.#call("GetGenericPortMappingEntry", () => [["NewPortMappingIndex", index]], bounds);
    const protocol = childText(answer, "NewProtocol")?.toLowerCase();
    if (protocol !== "tcp" && protocol !== "udp") throw new PortmapError("malformed", "an entry without a protocol");
    return {
      protocol,
      externalPort: numberIn(answer, "NewExternalPort", 0, 65_535),
      remoteHost: printable(childText(answer, "NewRemoteHost") ?? "", LONGEST_HOST),
      ...entryValues(answer),
    };
  }

  async getExternalIpAddress(bounds: CallBounds): Promise<string> {
    const answer = await this.#call("GetExternalIPAddress", () => [], bounds);
    const address = childText(answer, "NewExternalIPAddress") ?? "";
    if (address === "" || address === "0.0.0.0") throw new PortmapError("failed", "the gateway has no outer address");
    if (!isIPv4(address)) throw new PortmapError("malformed", "the gateway's outer address is none");
    return address;
  }

  /** Whether the connection is up: a gateway may describe several and use one. */
  async isConnected(bounds: CallBounds): Promise<boolean> {
    const answer = await this.#call("GetStatusInfo", () => [], bounds);
    return childText(answer, "NewConnectionStatus") === "Connected";
  }

  #call(action: string, args: (localAddress: string) => SoapArguments, bounds: CallBounds): Promise<XmlElement> {
    const { signal } = bounds;
    const { type, controlUrl } = this.service;
    return this.#limit.run(async () => {
      const startedMs = performance.now();
      const { status, text } = await httpRequest({
        url: controlUrl,
        method: "POST",
        headers: { "Content-Type": 'text/xml; charset="utf-8"', SOAPAction: `"${type}#${action}"` },
        body: (localAddress) => {
          this.#localAddress = localAddress;
          return soapCall(type, action, args(localAddress));
        },
        localAddress: this.#bindTo,
        mostBytes: MOST_ANSWER_BYTES,
        onConnected: (wasTurnedAway) => this.#limit.connected(wasTurnedAway, startedMs),
        signal,
      });
      // A fault comes with status 500 (UPnP device architecture 3.2.5), from some with 200.
      if (status !== 200 && status !== 500) {
        const code = status === 401 || status === 403 ? "denied" : "unsupported";
        throw new PortmapError(code, `the gateway answered ${action} with HTTP status ${status}`);
      }
      return parseSoapAnswer(text, action);
    }, bounds);
  }
}

export interface EntryKey {
  protocol: Protocol;
  externalPort: number;
  /** @default all */
  remoteHost?: string;
}

function keyArguments({ protocol, externalPort, remoteHost = "" }: EntryKey): SoapArguments {
  return [
    ["NewRemoteHost", remoteHost],
    ["NewExternalPort", externalPort],
    ["NewProtocol", protocol.toUpperCase()],
  ];
}

function addArguments(entry: WantedEntry, localAddress: string): SoapArguments {
  return [
    ...keyArguments(entry),
    ["NewInternalPort", entry.internalPort],
    ["NewInternalClient", entry.internalAddress ?? localAddress],
    ["NewEnabled", 1],
    ["NewPortMappingDescription", printable(entry.description, LONGEST_DESCRIPTION)],
    ["NewLeaseDuration", entry.lifetimeSeconds],
  ];
}

function entryValues(
  answer: XmlElement,
): Pick<Mapping, "internalPort" | "internalAddress" | "enabled" | "description" | "lifetimeSeconds"> {
  return {
    internalPort: numberIn(answer, "NewInternalPort", 0, 65_535),
    internalAddress: printable(childText(answer, "NewInternalClient") ?? "", LONGEST_HOST),
    enabled: /^(1|true|yes)$/i.test(childText(answer, "NewEnabled") ?? ""),
    description: printable(childText(answer, "NewPortMappingDescription") ?? "", LONGEST_DESCRIPTION),
    lifetimeSeconds: numberIn(answer, "NewLeaseDuration", 0, MOST_SECONDS),
  };
}

function numberIn(answer: XmlElement, name: string, least: number, most: number): number {
  const text = childText(answer, name) ?? "";
  const value = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= least && value <= most)) throw new PortmapError("malformed", `${name} of the gateway is no number`);
  return value;
}
