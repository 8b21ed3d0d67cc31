import { createRequire } from "node:module";

/** Set to this, no add-on is loaded at all: to test the portable paths, or to rule the add-ons out as a culprit. */
const SWITCHED_OFF = "off";

// The same from src/ and from dist/.
const FOLDER = "../build/";

/** An add-on, or in one line why there is none. */
export function loadAddon<T>(file: string): { addon: T } | { reason: string } {
  if (process.env.ISTHMUS_NATIVE === SWITCHED_OFF) return { reason: "switched off by ISTHMUS_NATIVE=off" };
  try {
    return { addon: createRequire(import.meta.url)(FOLDER + file) as T };
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === "MODULE_NOT_FOUND") return { reason: "the add-on was not built" };
    return { reason: `the add-on does not load: ${message.split("\n")[0]}` };
  }
}
