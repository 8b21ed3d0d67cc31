interface Entry<K> {
  readonly due: number;
  readonly key: K;
}

/** Entries that were moved or deleted are left where they are, until they are this many more than the others. */
const MOST_STALE = 1024;

/** Keys by the time at which each is due; setting one anew moves it. Pure. */
export class Deadlines<K> {
  readonly #due = new Map<K, number>();
  /** A heap; entries that were moved stay until they come up. */
  readonly #heap: Entry<K>[] = [];

  set(key: K, due: number): void {
    if (this.#due.get(key) === due) return;
    this.#due.set(key, due);
    this.#push({ due, key });
  }

  delete(key: K): void {
    this.#due.delete(key);
    if (this.#heap.length > MOST_STALE + 4 * this.#due.size) this.#rebuild();
  }

  /** Takes out what is due. */
  *take(now: number): Generator<K> {
    for (;;) {
      this.#settle();
      const first = this.#heap[0];
      if (!first || first.due > now) return;
      this.#due.delete(first.key);
      yield first.key;
    }
  }

  clear(): void {
    this.#due.clear();
    this.#heap.length = 0;
  }

  /** Drops entries at the top that were moved or deleted. */
  #settle(): void {
    for (let first = this.#heap[0]; first && this.#due.get(first.key) !== first.due; first = this.#heap[0]) this.#pop();
  }

  #rebuild(): void {
    this.#heap.length = 0;
    for (const [key, due] of this.#due) this.#push({ due, key });
  }

  #push(entry: Entry<K>): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(entry);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (heap[parent]!.due <= entry.due) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = entry;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop()!;
    if (heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && heap[child + 1]!.due < heap[child]!.due) child++;
      if (heap[child]!.due >= last.due) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
  }
}
