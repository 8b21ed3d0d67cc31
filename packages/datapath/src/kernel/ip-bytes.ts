import { isIP } from "node:net";
import { canonicalIp } from "@isthmus/protocol";

const MAPPED_GROUPS = ["0", "0", "0", "0", "0", "ffff"];

/** An address as packets carry it: 4 bytes, or 16. @throws TypeError when the text is no address */
export function ipBytes(text: string): Uint8Array {
  const address = canonicalIp(text);
  if (isIP(address) === 4) return Uint8Array.from(address.split("."), Number);
  if (isIP(address) !== 6) throw new TypeError(`${text} is not an IP address`);
  // An IPv4 address at the end stands for two groups.
  const hex = address.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, a, b, c, d) =>
    [Number(a) * 256 + Number(b), Number(c) * 256 + Number(d)].map((group) => group.toString(16)).join(":"),
  );
  const [head = "", tail] = hex.split("::");
  const left = head === "" ? [] : head.split(":");
  const right = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros: string[] = tail === undefined ? [] : Array(8 - left.length - right.length).fill("0");
  return Uint8Array.from(
    [...left, ...zeros, ...right]
      .map((group) => Number.parseInt(group, 16))
      .flatMap((group) => [group >> 8, group & 0xff]),
  );
}

/** The text of an address as sockets report it (RFC 5952). @throws TypeError unless it has 4 or 16 bytes */
export function ipText(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join(".");
  if (bytes.length !== 16) throw new TypeError(`an address of ${bytes.length} bytes`);
  const groups = Array.from({ length: 8 }, (_, n) => (bytes[2 * n]! * 256 + bytes[2 * n + 1]!).toString(16));
  if (MAPPED_GROUPS.every((group, n) => groups[n] === group)) return bytes.subarray(12).join(".");
  const { start, length } = longestZeros(groups);
  if (length < 2) return groups.join(":");
  return `${groups.slice(0, start).join(":")}::${groups.slice(start + length).join(":")}`;
}

/** The first of the longest runs. */
function longestZeros(groups: readonly string[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  let length = 0;
  for (const [index, group] of groups.entries()) {
    length = group === "0" ? length + 1 : 0;
    if (length > best.length) best = { start: index - length + 1, length };
  }
  return best;
}
