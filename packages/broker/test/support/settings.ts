import { type BrokerSettings, brokerSettings } from "@isthmus/broker";
import type { z } from "zod";

/** Rates that no test reaches by accident. */
const FREE = { per_second: 1_000_000, burst: 1_000_000 };
const FREE_RATES = {
  connects: FREE,
  requests: FREE,
  service_changes: FREE,
  subscribes: FREE,
  invites: FREE,
  control_frames: FREE,
  probes_per_device: FREE,
  probes_per_address: FREE,
  port_probes_per_device: FREE,
  port_probes_per_user: FREE,
  port_probes_per_address: FREE,
};

/** Settings without limits of rate, but for those that a test is about. */
export function testSettings(settings: z.input<typeof brokerSettings> = {}): BrokerSettings {
  return brokerSettings.parse({ ...settings, rates: { ...FREE_RATES, ...settings.rates } });
}
