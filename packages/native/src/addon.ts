import { createRequire } from "node:module";
import type { AeadEngine } from "./aead/engine.ts";
import type { PumpEngine } from "./pump/index.ts";

/** The add-on's parts, one for each C entry point (c/addon.h). */
export interface Addon {
  readonly aead: AeadEngine;
  readonly pump: PumpEngine;
}

/** Set to this, the add-on is not loaded at all: to test the portable paths, or to rule the add-on out as a culprit. */
const SWITCHED_OFF = "off";

// The same from src/ and from dist/.
const FILE = "../build/isthmus_native.node";

/** The add-on, or in one line why there is none. */
export const loaded: { addon: Addon } | { reason: string } = load();

function load(): { addon: Addon } | { reason: string } {
  if (process.env.ISTHMUS_NATIVE === SWITCHED_OFF) return { reason: "switched off by ISTHMUS_NATIVE=off" };
  try {
    return { addon: createRequire(import.meta.url)(FILE) as Addon };
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === "MODULE_NOT_FOUND") return { reason: "the add-on was not built" };
    return { reason: `the add-on does not load: ${message.split("\n")[0]}` };
  }
}
