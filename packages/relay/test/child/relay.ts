import { Metrics, silentLogger } from "@isthmus/service";
import { Relay, relayConfig } from "../../src/index.ts";

// Runs a relay by the configuration of its argument (JSON); one line tells how that went. It stops by a signal only.
const config = relayConfig.parse(JSON.parse(process.argv[2]!));
const relay = new Relay({ config, logger: silentLogger(), metrics: new Metrics("ist") });
try {
  await relay.start();
  process.stdout.write(`up ${relay.port}\n`);
} catch (error) {
  process.stdout.write(`failed ${(error as Error).message}\n`);
}
