import { type PortmapCode, PortmapError } from "../portmap-error.ts";

/** The numbers of faults that decide something here (UPnP device architecture 3.2.5; WANIPConnection:2, 2.5). */
export const FAULT = {
  noSuchIndex: 713,
  noSuchEntry: 714,
  conflict: 718,
  permanentLeasesOnly: 725,
  noSuchMapping: 730,
} as const;

/** Every number that gateways are known to answer with. 718 is `denied` until a look-up has shown who holds the port. */
const FAULTS: Record<number, { code: PortmapCode; text: string }> = {
  401: { code: "unsupported", text: "invalid action" },
  402: { code: "unsupported", text: "invalid arguments" },
  501: { code: "failed", text: "action failed" },
  600: { code: "unsupported", text: "argument value invalid" },
  601: { code: "unsupported", text: "argument value out of range" },
  602: { code: "unsupported", text: "optional action not implemented" },
  603: { code: "full", text: "out of memory" },
  604: { code: "denied", text: "human intervention required" },
  605: { code: "unsupported", text: "string argument too long" },
  606: { code: "denied", text: "action not authorized" },
  [FAULT.noSuchIndex]: { code: "failed", text: "specified array index invalid" },
  [FAULT.noSuchEntry]: { code: "failed", text: "no such entry in array" },
  715: { code: "unsupported", text: "wildcard not permitted in source IP" },
  716: { code: "unsupported", text: "wildcard not permitted in external port" },
  [FAULT.conflict]: { code: "denied", text: "conflict in mapping entry" },
  724: { code: "unsupported", text: "same port values required" },
  [FAULT.permanentLeasesOnly]: { code: "unsupported", text: "only permanent leases supported" },
  726: { code: "unsupported", text: "remote host only supports wildcard" },
  727: { code: "unsupported", text: "external port only supports wildcard" },
  728: { code: "full", text: "no port maps available" },
  729: { code: "denied", text: "conflict with other mechanisms: the gateway needs the port itself" },
  [FAULT.noSuchMapping]: { code: "failed", text: "port mapping not found" },
  731: { code: "denied", text: "read only" },
  732: { code: "unsupported", text: "wildcard not permitted in internal port" },
  733: { code: "unsupported", text: "inconsistent parameters" },
};

/** The error of a fault's number; an unknown one is `failed`. */
export function faultError(number: number, gatewayText: string): PortmapError {
  const { code, text } = FAULTS[number] ?? { code: "failed", text: gatewayText };
  return new PortmapError(code, `the gateway answered ${number} (${text})`, { gatewayCode: number });
}
