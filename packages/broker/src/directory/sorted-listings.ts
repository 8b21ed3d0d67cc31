import type { Listing } from "./listing.ts";

/** Listings in the order of their ids. Moving the pointers behind an insertion costs less than any tree up to 100,000. */
export class SortedListings {
  readonly #listings: Listing[] = [];

  get size(): number {
    return this.#listings.length;
  }

  /** Adds a listing, in the place of the one with the same id. */
  put(listing: Listing): void {
    const index = this.#indexOf(listing.id);
    const isThere = this.#listings[index]?.id === listing.id;
    this.#listings.splice(index, isThere ? 1 : 0, listing);
  }

  delete(id: string): void {
    const index = this.#indexOf(id);
    if (this.#listings[index]?.id === id) this.#listings.splice(index, 1);
  }

  /** Position of the first listing behind `id`. */
  after(id: string): number {
    const index = this.#indexOf(id);
    return this.#listings[index]?.id === id ? index + 1 : index;
  }

  at(index: number): Listing | undefined {
    return this.#listings[index];
  }

  /** Where `id` is or belongs. */
  #indexOf(id: string): number {
    let low = 0;
    let high = this.#listings.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#listings[middle]!.id < id) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** The listings of several lists behind a cursor, in order. The lists do not overlap and do not change meanwhile. */
export function* merged(lists: readonly SortedListings[], cursor: string): Generator<Listing, void, undefined> {
  const positions = lists.map((list) => list.after(cursor));
  for (;;) {
    let first: Listing | undefined;
    let from = -1;
    for (const [index, list] of lists.entries()) {
      const candidate = list.at(positions[index]!);
      if (candidate === undefined || (first !== undefined && first.id < candidate.id)) continue;
      first = candidate;
      from = index;
    }
    if (first === undefined) return;
    positions[from]!++;
    yield first;
  }
}
