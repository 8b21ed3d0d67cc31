import { XMLParser, XMLValidator } from "fast-xml-parser";
import { PortmapError } from "../portmap-error.ts";

/** Elements inside elements. The deepest that UPnP needs is a service three devices down: 9. */
const DEEPEST = 24;
/** Tags in all, of beginnings and ends. The longest descriptions of gateways have some hundreds; each costs time. */
const MOST_TAGS = 4000;

/** What an XML 1.0 text can hold (XML 1.0, 2.2); lone surrogates are none either. */
const FORBIDDEN = /[^\t\n\r\u{20}-\u{D7FF}\u{E000}-\u{FFFD}\u{10000}-\u{10FFFF}]/gu;
const SPECIAL: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;" };
const REFERENCE = /&(?:(amp|lt|gt|quot|apos)|#(\d{1,7})|#x([\da-f]{1,6}));/gi;
const NAMED: Record<string, string> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };

/** An element: its text, and its children by name without namespace prefix. */
export interface XmlElement {
  text: string;
  children: ReadonlyMap<string, XmlElement[]>;
}

const parser = new XMLParser({
  ignoreAttributes: true,
  ignoreDeclaration: true,
  ignorePiTags: true,
  removeNSPrefix: true,
  parseTagValue: false,
  trimValues: false,
  processEntities: false,
  maxNestedTags: DEEPEST,
});

/**
 * The document as an element that holds the root element. Of entities only the five of XML and numbers are known: a
 * document type, which could define others, is refused.
 * @throws PortmapError `malformed`
 */
export function parseXml(text: string): XmlElement {
  if (/<!DOCTYPE/i.test(text)) throw new PortmapError("malformed", "the gateway's XML has a document type");
  if (text.split("<", MOST_TAGS + 2).length > MOST_TAGS + 1) {
    throw new PortmapError("malformed", "the gateway's XML has too many elements");
  }
  let parsed: unknown;
  try {
    if (XMLValidator.validate(text) !== true) throw new Error("not well-formed");
    parsed = parser.parse(text);
  } catch (cause) {
    throw new PortmapError("malformed", "the gateway's XML is not well-formed", { cause });
  }
  return toElement(parsed);
}

/** The first child of that name. */
export function child(element: XmlElement | undefined, name: string): XmlElement | undefined {
  return element?.children.get(name)?.[0];
}

/** The text of the first child of that name, without white space around it; undefined without such a child. */
export function childText(element: XmlElement | undefined, name: string): string | undefined {
  return child(element, name)?.text.trim();
}

/** Text as the content of an element or attribute. Characters that XML cannot hold are left out. */
export function escapeXml(text: string): string {
  return text.replace(FORBIDDEN, "").replace(/[&<>"']/g, (character) => SPECIAL[character]!);
}

function toElement(value: unknown): XmlElement {
  if (typeof value === "string") return { text: decode(value), children: new Map() };
  const children = new Map<string, XmlElement[]>();
  let text = "";
  for (const [name, content] of Object.entries((value ?? {}) as Record<string, unknown>)) {
    if (name === "#text") text = decode(String(content));
    else children.set(name, (Array.isArray(content) ? content : [content]).map(toElement));
  }
  return { text, children };
}

function decode(text: string): string {
  return text.replace(REFERENCE, (whole, name?: string, decimal?: string, hex?: string) => {
    if (name !== undefined) return NAMED[name.toLowerCase()]!;
    const point = decimal === undefined ? Number.parseInt(hex!, 16) : Number.parseInt(decimal, 10);
    return point > 0x10_ff_ff || (point >= 0xd8_00 && point <= 0xdf_ff) ? whole : String.fromCodePoint(point);
  });
}
