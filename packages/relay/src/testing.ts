import { randomUUID } from "node:crypto";
import { Metrics, silentLogger } from "@isthmus/service";
import { relayConfig } from "./config.ts";
import { Relay } from "./relay.ts";

/**
 * A real relay on loopback, beside any others, for tests of what meets at one.
 * @param invite of its ISB
 * @param folder of its data
 */
export async function startLoopbackRelay(invite: string, folder: string, name = "ist"): Promise<Relay> {
  const relay = new Relay({
    config: relayConfig.parse({
      data: folder,
      name,
      listen: { addresses: ["127.0.0.1"], port: 0 },
      public: ["127.0.0.1"],
      insecure: true,
      data_path: { driver: "userspace" },
      lock: `isthmus-ist-test-${randomUUID()}`,
      drain_seconds: 0,
      registration: invite,
    }),
    logger: silentLogger(),
    metrics: new Metrics("ist"),
  });
  await relay.start();
  return relay;
}
