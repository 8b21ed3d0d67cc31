import type { AeadEngine } from "./aead/engine.ts";
import type { DatagramEngine } from "./datagrams/index.ts";
import { loadAddon } from "./load-addon.ts";
import type { PumpEngine } from "./pump/index.ts";
import type { UdpEngine } from "./udp/engine.ts";

/** The add-on's parts, one for each C entry point (c/addon.h). */
export interface Addon {
  readonly aead: AeadEngine;
  readonly pump: PumpEngine;
  readonly datagrams: DatagramEngine;
  readonly udp: UdpEngine;
}

/** The add-on, or in one line why there is none. */
export const loaded: { addon: Addon } | { reason: string } = loadAddon<Addon>("isthmus_native.node");
