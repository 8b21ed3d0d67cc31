import { PortmapError } from "../portmap-error.ts";
import { printable } from "../printable.ts";
import { faultError } from "./upnp-fault.ts";
import { child, childText, escapeXml, parseXml, type XmlElement } from "./xml.ts";

/** Of a gateway's own words in an error. */
const LONGEST_FAULT_TEXT = 100;

/** In the order in which the service describes them: gateways rely on it. */
export type SoapArguments = readonly (readonly [name: string, value: string | number])[];

/** The body of a call. */
export function soapCall(serviceType: string, action: string, args: SoapArguments): string {
  const inner = args.map(([name, value]) => `<${name}>${escapeXml(String(value))}</${name}>`).join("");
  return (
    '<?xml version="1.0"?>\r\n<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" ' +
    's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>' +
    `<u:${action} xmlns:u="${escapeXml(serviceType)}">${inner}</u:${action}></s:Body></s:Envelope>\r\n`
  );
}

/**
 * The arguments of an answer.
 * @throws PortmapError with `gatewayCode` for a fault, otherwise `malformed`
 */
export function parseSoapAnswer(text: string, action: string): XmlElement {
  const body = child(child(parseXml(text), "Envelope"), "Body");
  const fault = child(body, "Fault");
  if (fault) throw soapFault(fault);
  const answer = child(body, `${action}Response`);
  if (!answer) throw new PortmapError("malformed", `the gateway's answer is none to ${action}`);
  return answer;
}

function soapFault(fault: XmlElement): PortmapError {
  const error = child(child(fault, "detail"), "UPnPError");
  const number = childText(error, "errorCode");
  if (number === undefined || !/^\d{3}$/.test(number)) {
    return new PortmapError("malformed", "the gateway's fault has no number");
  }
  return faultError(Number(number), printable(childText(error, "errorDescription") ?? "", LONGEST_FAULT_TEXT));
}
