import { type DirectoryEntry, fingerprintOf, type ServiceSpec } from "@isthmus/protocol";

/** Who may use a service: its user's own devices, the users on its list, or anyone. */
export interface Audience {
  owner: string;
  allow: ServiceSpec["allow"];
}

export function includes(audience: Audience, user: string): boolean {
  return audience.allow.anyone || audience.owner === user || audience.allow.users.includes(user);
}

/** One service in the directory. */
export interface Listing extends Audience {
  /** USER/SERVICE: the directory's order and cursor. */
  readonly id: string;
  /** Key of the device that provides it. */
  readonly device: string;
  readonly deviceName: string;
  readonly spec: ServiceSpec;
  /** The provider is logged in, or its session broke a moment ago. */
  readonly present: boolean;
}

export function directoryEntryOf(listing: Listing): DirectoryEntry {
  const { owner, device, deviceName, spec, present } = listing;
  return {
    service: spec.name,
    user: owner,
    device: deviceName,
    fingerprint: fingerprintOf(device),
    channels: spec.channels,
    behaviour: spec.behaviour,
    description: spec.description,
    present,
  };
}
