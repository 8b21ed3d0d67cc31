import type { DirectoryEntry } from "@isthmus/protocol";
import { directoryEntryOf, includes, type Listing } from "./listing.ts";
import { merged, SortedListings } from "./sorted-listings.ts";
import { VisibleIndex } from "./visible-index.ts";

/** Listings that one page may look at: with a filter that fits little, a page is short and its cursor goes on. */
const MOST_LOOKED_AT = 5000;

export interface PageRequest {
  /** Who asks. */
  asker: string;
  user?: string | undefined;
  service?: string | undefined;
  /** Also services whose provider is away. */
  away: boolean;
  cursor?: string | undefined;
  limit: number;
}

/** Which services there are, who may use them and whose provider is present. In memory, made from profiles and sessions. */
export class Directory {
  readonly #changed: (id: string, after: Listing | undefined, before: Listing | undefined) => void;
  readonly #listings = new Map<string, Listing>();
  readonly #byOwner = new Map<string, SortedListings>();
  readonly #all = new VisibleIndex();
  readonly #present = new VisibleIndex();

  /** @param changed called for each change */
  constructor(changed: (id: string, after: Listing | undefined, before: Listing | undefined) => void) {
    this.#changed = changed;
  }

  get size(): number {
    return this.#listings.size;
  }

  get presentCount(): number {
    return this.#present.size;
  }

  get(id: string): Listing | undefined {
    return this.#listings.get(id);
  }

  /** Ids in no order. */
  ids(): Iterable<string> {
    return this.#listings.keys();
  }

  put(listing: Listing): void {
    const before = this.#listings.get(listing.id);
    if (before) this.#unindex(before);
    this.#listings.set(listing.id, listing);
    const owned = this.#byOwner.get(listing.owner) ?? new SortedListings();
    this.#byOwner.set(listing.owner, owned);
    owned.put(listing);
    this.#all.add(listing);
    if (listing.present) this.#present.add(listing);
    this.#changed(listing.id, listing, before);
  }

  remove(id: string): void {
    const before = this.#listings.get(id);
    if (!before) return;
    this.#unindex(before);
    this.#listings.delete(id);
    const owned = this.#byOwner.get(before.owner);
    owned?.delete(id);
    if (owned?.size === 0) this.#byOwner.delete(before.owner);
    this.#changed(id, undefined, before);
  }

  setPresent(id: string, present: boolean): void {
    const listing = this.#listings.get(id);
    if (listing && listing.present !== present) this.put({ ...listing, present });
  }

  /** What the asker may use, in order; the cursor is there when something may follow. */
  page(request: PageRequest): { entries: DirectoryEntry[]; cursor?: string } {
    const { asker, user, service, away, limit } = request;
    const entries: DirectoryEntry[] = [];
    let cursor = request.cursor ?? "";
    let lookedAt = 0;
    for (const listing of merged(this.#listsFor(request), cursor)) {
      if (entries.length === limit || lookedAt === MOST_LOOKED_AT) return { entries, cursor };
      lookedAt++;
      cursor = listing.id;
      if (service !== undefined && listing.spec.name !== service) continue;
      if (user !== undefined && !includes(listing, asker)) continue;
      if (away || listing.present) entries.push(directoryEntryOf(listing));
    }
    return { entries };
  }

  #listsFor({ asker, user, away }: PageRequest): SortedListings[] {
    if (user === undefined) return (away ? this.#all : this.#present).listsFor(asker);
    const owned = this.#byOwner.get(user);
    return owned ? [owned] : [];
  }

  #unindex(listing: Listing): void {
    this.#all.remove(listing);
    if (listing.present) this.#present.remove(listing);
  }
}
