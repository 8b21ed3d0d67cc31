import type { Store, StoreRecord } from "./store.ts";

/** Every record under a prefix, page by page: what is written meanwhile may or may not be among them. */
export async function* scanAll(store: Store, prefix: string): AsyncGenerator<StoreRecord, void, undefined> {
  const limit = 500;
  let after: string | undefined;
  for (;;) {
    const page: StoreRecord[] = await store.scan(prefix, after === undefined ? { limit } : { after, limit });
    yield* page;
    if (page.length < limit) return;
    after = page.at(-1)!.key;
  }
}
