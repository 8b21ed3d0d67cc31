import fc from "fast-check";
import type { Listing } from "../../src/directory/listing.ts";

export const USERS = ["alice", "bob", "carol", "dave"];
const DEVICE = "A".repeat(43);

/** Listings of few users with few services, so that they meet. */
export const anyListing: fc.Arbitrary<Listing> = fc
  .record({
    owner: fc.constantFrom(...USERS),
    name: fc.constantFrom("a", "a-b", "a.b", "b", "web"),
    anyone: fc.boolean(),
    users: fc.subarray(USERS),
    description: fc.constantFrom("", "x", "y"),
    present: fc.boolean(),
  })
  .map(({ owner, name, anyone, users, description, present }) => {
    const allow = { anyone, users };
    const spec = { name, channels: [], behaviour: "plain", plain: false, description, allow };
    return { id: `${owner}/${name}`, owner, allow, device: DEVICE, deviceName: "desk", spec, present };
  });
