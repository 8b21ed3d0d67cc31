import { readFileSync, writeFileSync } from "node:fs";
import type { PortRange } from "../data-path.ts";

const RESERVED = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/**
 * Keeps the system from giving ports of the range to sockets that ask for any. They stay reserved, as cells do, when the
 * process ends.
 * @param file of the reserved ports, as Linux shows them
 * @throws the system's error
 */
export function reservePorts({ from, to }: PortRange, file = RESERVED): void {
  const before = readFileSync(file, "utf8").trim();
  const ranges = before === "" ? [] : before.split(",");
  const holds = ranges.some((range) => {
    const [first, last = first] = range.split("-").map(Number);
    return first! <= from && last! >= to;
  });
  // What is written takes the place of what was there.
  if (!holds) writeFileSync(file, [...ranges, `${from}-${to}`].join(","));
}
