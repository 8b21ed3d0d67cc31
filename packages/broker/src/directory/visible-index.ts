import type { Listing } from "./listing.ts";
import { SortedListings } from "./sorted-listings.ts";

/**
 * Listings by who may use them, so that what one user sees is found without looking at what others offer to others.
 * A listing for anyone is in one list alone; any other is in its owner's and in that of each user it names.
 */
export class VisibleIndex {
  readonly #forAnyone = new SortedListings();
  readonly #byUser = new Map<string, SortedListings>();

  get size(): number {
    return this.#size;
  }
  #size = 0;

  add(listing: Listing): void {
    this.#size++;
    if (listing.allow.anyone) this.#forAnyone.put(listing);
    else for (const user of namedUsers(listing)) this.#listOf(user).put(listing);
  }

  remove(listing: Listing): void {
    this.#size--;
    if (listing.allow.anyone) {
      this.#forAnyone.delete(listing.id);
      return;
    }
    for (const user of namedUsers(listing)) {
      const list = this.#byUser.get(user);
      list?.delete(listing.id);
      if (list?.size === 0) this.#byUser.delete(user);
    }
  }

  /** Lists that together hold exactly what the user may use. */
  listsFor(user: string): SortedListings[] {
    const own = this.#byUser.get(user);
    return own ? [this.#forAnyone, own] : [this.#forAnyone];
  }

  #listOf(user: string): SortedListings {
    const list = this.#byUser.get(user) ?? new SortedListings();
    this.#byUser.set(user, list);
    return list;
  }
}

function namedUsers({ owner, allow }: Listing): Set<string> {
  return new Set([owner, ...allow.users]);
}
