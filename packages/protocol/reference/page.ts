import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { z } from "zod";
import * as protocol from "../src/index.ts";
import { commentsOf, sourceOf } from "./source-comments.ts";
import { fieldTable, table, typeSection } from "./tables.ts";
import { EXPORTED, nameOf, typeText } from "./types.ts";

/** Every source file whose comments the page uses. */
const FILES = [
  "address",
  "allocation",
  "bytes",
  "catalog",
  "codes",
  "control-frame",
  "datagram",
  "envelope",
  "grant",
  "invite",
  "isb-daemon",
  "isb-ist",
  "ist-daemon",
  "leg-header",
  "limits",
  "link-control",
  "local-api",
  "login",
  "names",
  "preface",
  "record",
  "version",
];
const COMMENTS = new Map(FILES.flatMap((file) => [...commentsOf(`${file}.ts`)]));

/** Names whose comment stands in a section of the page: the types of these names do not say it again. */
const SAID = new Set<string>();

/** The comment above a name in the sources; a page without it would be a page with a hole. */
function comment(name: string): string {
  const text = COMMENTS.get(name);
  if (text === undefined) throw new Error(`nothing is written above ${name}`);
  SAID.add(name);
  return text;
}

function prose(name: string): string {
  return readFileSync(join(import.meta.dirname, "text", `${name}.md`), "utf8").trim();
}

/** The whole reference of the protocol as one Markdown page. */
export function protocolPage(): string {
  const { isbDaemon, isbIst, istDaemon, loginVocabulary } = protocol;
  const sections = [
    prose("layers"),
    "## Versions",
    comment("PROTOCOL_VERSION"),
    prose("sessions"),
    "### Frames",
    comment("requestId"),
    "## Login",
    comment("serverRole"),
    ...vocabulary("loginVocabulary.toClient", "server to client", loginVocabulary.toClient),
    ...vocabulary("loginVocabulary.toServer", "client to server", loginVocabulary.toServer),
    "### What both sign",
    comment("loginTranscript"),
    ...session("isbDaemon", "Daemon at ISB", isbDaemon, ["daemon to ISB", "ISB to daemon"]),
    "### What the keys sign at a rotation",
    comment("rotationTranscript"),
    ...session("isbIst", "IST at ISB", isbIst, ["IST to ISB", "ISB to IST"]),
    ...session("istDaemon", "Daemon at IST", istDaemon, ["daemon to IST", "IST to daemon"]),
    prose("links"),
    "### Control frame",
    comment("CONTROL_HEADER_BYTES"),
    "### Control messages",
    comment("openId"),
    ...Object.entries(protocol.linkControl).flatMap(([type, body]) => message(`linkControl.${type}`, type, "", body)),
    prose("legs"),
    "### Leg header",
    comment("LEG_HEADER_BYTES"),
    "### Preface",
    comment("PREFACE_BYTES"),
    "### Records",
    comment("RECORD_HEADER_BYTES"),
    "### Content types of records",
    recordTypes(),
    "### Datagrams",
    comment("DATAGRAM_HEADER_BYTES"),
    "## Grants",
    comment("grantPayload"),
    `Header, letter for letter: \`${JSON.stringify(protocol.GRANT_HEADER)}\`. Payload:`,
    fieldTable(protocol.grantPayload, COMMENTS, "grantPayload"),
    "## Invites",
    comment("invite"),
    fieldTable(protocol.invite, COMMENTS, "invite"),
    "## Fingerprints",
    comment("fingerprintOf"),
    "## Local API",
    comment("localApi"),
    ...localApi(),
  ];
  const body = sections.join("\n\n");
  return `${[body, "## Types", typeSections(body), "## Limits", limits(), "## Codes", codes()].join("\n\n")}\n`;
}

function session(
  path: string,
  title: string,
  { toServer, toClient }: protocol.SessionInterface,
  [up, down]: [string, string],
): string[] {
  return [
    `## ${title}`,
    ...(COMMENTS.has(path) ? [comment(path)] : []),
    ...vocabulary(`${path}.toServer`, up, toServer),
    ...vocabulary(`${path}.toClient`, down, toClient),
  ];
}

function vocabulary(path: string, direction: string, { requests, events }: protocol.Vocabulary): string[] {
  return [
    ...Object.entries(requests).flatMap(([type, { request, reply }]) => [
      ...message(`${path}.requests.${type}`, type, `request, ${direction}`, request),
      ...answer(reply, `${path}.requests.${type}.reply`),
    ]),
    ...Object.entries(events).flatMap(([type, body]) =>
      message(`${path}.events.${type}`, type, `event, ${direction}`, body),
    ),
  ];
}

function answer(reply: z.ZodObject, path: string): string[] {
  if (Object.keys(reply.shape).length === 0) return ["Answer: no fields."];
  return ["Answer:", fieldTable(reply, COMMENTS, path)];
}

function message(path: string, type: string, kind: string, body: z.ZodObject): string[] {
  const lead = COMMENTS.get(path);
  return [
    `#### \`${type}\`${kind === "" ? "" : ` (${kind})`}`,
    ...(lead === undefined ? [] : [lead]),
    fieldTable(body, COMMENTS, COMMENTS.has(`${path}.request`) ? `${path}.request` : path),
  ];
}

function recordTypes(): string {
  const { alert, handshake, data } = protocol.RECORD_TYPE;
  return table(
    ["content type", "content"],
    [
      [`${alert} alert`, comment("RECORD_TYPE.alert")],
      [
        `${handshake} handshake`,
        [
          `0x${protocol.HANDSHAKE_OPEN.toString(16)} and what follows: ${comment("HANDSHAKE_OPEN")}`,
          `0x${Buffer.from(protocol.KEY_UPDATE).toString("hex")}: key update, ${comment("KEY_UPDATE")}`,
        ].join(" "),
      ],
      [`${data} data`, `Up to ${protocol.LIMITS.recordPlaintextBytes} bytes of the stream.`],
    ],
  );
}

function localApi(): string[] {
  return Object.entries(protocol.localApi).flatMap(([call, { method, path, body, reply }]) => [
    `#### ${call}: \`${method} ${path}\``,
    ...(COMMENTS.has(`localApi.${call}`) ? [comment(`localApi.${call}`)] : []),
    ...labelled("Body", body, `localApi.${call}.body`),
    ...labelled("Reply", reply, `localApi.${call}.reply`),
  ]);
}

function labelled(label: string, schema: z.ZodObject, path: string): string[] {
  if (Object.keys(schema.shape).length === 0) return [];
  if (nameOf(schema) !== undefined) return [`${label}: ${typeText(schema)}.`];
  return [`${label}:`, fieldTable(schema, COMMENTS, path)];
}

/** All types that the page links to, and those that they link to in turn. */
function typeSections(page: string): string {
  const sections = new Map<string, string>();
  const byAnchor = new Map([...EXPORTED.keys()].map((name) => [name.toLowerCase(), name]));
  const add = (text: string): void => {
    for (const [, anchor] of text.matchAll(/\(#type-(\w+)\)/g)) {
      const name = byAnchor.get(anchor!)!;
      if (sections.has(name)) continue;
      sections.set(name, "");
      const lead = SAID.has(name) ? "" : (COMMENTS.get(name) ?? "");
      sections.set(name, typeSection(name, EXPORTED.get(name)!, lead, COMMENTS));
      add(sections.get(name)!);
    }
  };
  add(page);
  return [...sections.keys()]
    .sort()
    .map((name) => sections.get(name)!)
    .join("\n\n");
}

function limits(): string {
  let shared = "";
  const rows = Object.entries(protocol.LIMITS).map(([name, value]) => {
    shared = COMMENTS.get(`LIMITS.${name}`)?.replaceAll("\n", " ") ?? shared;
    return [`\`${name}\``, value.toLocaleString("en"), shared];
  });
  return table(["limit", "value", "meaning"], rows);
}

/** The codes under the headings that stand among them in the source. */
function codes(): string {
  const parts = [comment("CODES")];
  let rows: string[][] = [];
  const flush = (): void => {
    if (rows.length > 0) parts.push(table(["code", "retry", "meaning"], rows));
    rows = [];
  };
  for (const line of sourceOf("codes.ts").split("\n")) {
    const heading = /^ {2}\/\/ (.+)$/.exec(line);
    if (heading) {
      flush();
      parts.push(`### ${heading[1]}`);
    }
    const word = /^ {2}"?([a-z-]+)"?: \{/.exec(line)?.[1];
    if (word === undefined || !protocol.isCode(word)) continue;
    const { retry, text } = protocol.CODES[word];
    rows.push([`\`${word}\``, retry ? "yes" : "no", text]);
  }
  flush();
  return parts.join("\n\n");
}
