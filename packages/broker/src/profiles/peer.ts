import type { KeyRotation } from "@isthmus/protocol";
import type { Profiles } from "./profiles.ts";

/** A device as the other side of a link is told of it. */
export function peerOf(profiles: Profiles, key: string): { user: string; key: string; rotations: KeyRotation[] } {
  const device = profiles.device(key);
  return { user: device?.user ?? "", key, rotations: device?.rotations ?? [] };
}
