import type { Transport } from "@isthmus/protocol";
import { InvalidArgumentError } from "commander";

/** A port as people write it. */
export interface PortName {
  protocol: Transport;
  port: number;
}

/** Of `PORT`, `PORT/tcp` or `PORT/udp`. @throws InvalidArgumentError */
export function portName(text: string): PortName {
  const match = /^(\d{1,5})(?:\/(tcp|udp))?$/.exec(text);
  const port = Number(match?.[1]);
  if (!match || port < 1 || port > 65_535) throw new InvalidArgumentError("is not PORT, PORT/tcp or PORT/udp");
  return { protocol: match[2] === "udp" ? "udp" : "tcp", port };
}
