import { ephemeralOverlap } from "@isthmus/datapath";
import { BrokerFiles } from "@isthmus/relay";
import type { Config } from "./config.ts";

/**
 * What an operator may not have meant, in a configuration that can be used.
 * @throws Error that names a file which cannot be read
 */
export function warningsOf(config: Config): string[] {
  const warnings: string[] = [];
  const overlap = ephemeralOverlap(config.data_path.ports);
  if (overlap !== undefined) warnings.push(overlap);
  const joined = new BrokerFiles(config.data).all();
  if (config.isbs.length === 0 && joined.length === 0 && config.registration === undefined) {
    warnings.push("no ISB is configured or joined: nobody can ask for an allocation");
  }
  if (config.public.length === 0) warnings.push("'public' is not set: daemons are told the addresses of this host");
  if (config.insecure) warnings.push("'insecure' is set: sessions of daemons are not encrypted");
  return warnings;
}

/** The configuration without what must not be seen over a shoulder or in a bug report. */
export function redacted(config: Config): object {
  return { ...config, registration: config.registration && "[redacted]" };
}
