import type { Store } from "../src/index.ts";

const WRITERS = 20;
const KEYS_EACH = 4;
const PADDING = "x".repeat(1500);

interface Notes {
  tried(key: string, content: number | undefined): void;
  done(key: string, content: number | undefined, version: number): void;
}

/** Many writers at once, each with keys of its own, which write, rewrite and delete until the store fails. */
export async function writeForever(store: Store, notes: Notes): Promise<void> {
  await Promise.all(
    Array.from({ length: WRITERS }, async (_, writer) => {
      for (let n = 0; ; n++) {
        const key = `writer/${writer}/${n % KEYS_EACH}`;
        const before = await store.get(key);
        // Every key is deleted now and then, but none that is not there.
        const content = n % 7 === 6 && before !== undefined ? undefined : n;
        notes.tried(key, content);
        const value = content === undefined ? undefined : { n: content, padding: PADDING };
        notes.done(key, content, await store.compareAndSet(key, before?.version ?? 0, value));
      }
    }),
  );
}
