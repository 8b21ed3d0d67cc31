import { loadAddon } from "../load-addon.ts";
import type { SocketsBinding } from "./binding.ts";

const loaded = loadAddon<SocketsBinding>("isthmus_sockets.node");

/** Why this process cannot be shown sockets, in one line; nothing where it can. */
export const socketsUnavailable: string | undefined = "reason" in loaded ? loaded.reason : undefined;

/** @throws Error with the reason where there is no add-on */
export function socketsBinding(): SocketsBinding {
  if ("reason" in loaded) throw new Error(`sockets cannot be passed: ${loaded.reason}`);
  return loaded.addon;
}
