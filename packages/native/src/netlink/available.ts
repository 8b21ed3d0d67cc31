import { loadAddon } from "../load-addon.ts";
import type { NetlinkBinding } from "./binding.ts";
import { NetlinkError } from "./netlink-error.ts";

const loaded = loadAddon<NetlinkBinding>("isthmus_netlink.node");

/** Why this process has no netlink sockets, in one line; nothing where it has. */
export const netlinkUnavailable: string | undefined = "reason" in loaded ? loaded.reason : undefined;

/** @throws NetlinkError `ENOSYS` with the reason where there is no add-on */
export function netlinkBinding(): NetlinkBinding {
  if ("reason" in loaded) throw NetlinkError.of("ENOSYS", `there is no netlink: ${loaded.reason}`);
  return loaded.addon;
}
