import { readFileSync } from "node:fs";
import type { PortRange } from "./data-path.ts";

/** Below Linux' default range of ephemeral ports (32768 to 60999), above what services usually listen on. */
export const DEFAULT_PORTS: PortRange = { from: 20_000, to: 32_767 };

const EPHEMERAL_PORTS = "/proc/sys/net/ipv4/ip_local_port_range";

/**
 * What is wrong with a range for cells on this host, or nothing. An overlap with the ports that the system gives to
 * outgoing connections costs cells a port now and then (`userspace`), or steals packets of such connections (`kernel`,
 * `ebpf`), which take whole ports.
 * @param file of the two bounds, as Linux shows them; a system without it is not judged
 */
export function ephemeralOverlap(range: PortRange, file = EPHEMERAL_PORTS): string | undefined {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch {
    return undefined;
  }
  const [low, high] = text.trim().split(/\s+/).map(Number) as [number, number];
  if (range.to < low || range.from > high) return undefined;
  return (
    `cell ports ${range.from}-${range.to} overlap the ephemeral ports ${low}-${high}: ` +
    "choose others, or change net.ipv4.ip_local_port_range"
  );
}
