import { LEG_MAGIC } from "@isthmus/protocol";

/** What a connection to the port of an IST turns out to be; `more`: not yet to be told; `unknown`: none of ours. */
export type Greeting = "tls" | "http" | "leg" | "more" | "unknown";

/** A TLS record of type handshake (22) and major version 3, as every ClientHello starts. */
const TLS = Buffer.from([0x16, 0x03]);
const HTTP = Buffer.from("GET ", "latin1");

/** Tells a connection by its first bytes; they differ in the very first. Pure. */
export function greetingOf(bytes: Buffer): Greeting {
  for (const [greeting, start] of [
    ["tls", TLS],
    ["http", HTTP],
    ["leg", LEG_MAGIC],
  ] as const) {
    const length = Math.min(bytes.length, start.length);
    if (!bytes.subarray(0, length).equals(start.subarray(0, length))) continue;
    return bytes.length >= start.length ? greeting : "more";
  }
  return "unknown";
}
