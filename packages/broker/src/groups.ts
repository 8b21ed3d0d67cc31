const NONE: ReadonlySet<never> = new Set();

/** Things by the group they are in; a group without any takes no memory. */
export class Groups<T> {
  readonly #groups = new Map<string, Set<T>>();

  add(group: string, item: T): void {
    const items = this.#groups.get(group);
    if (items) items.add(item);
    else this.#groups.set(group, new Set([item]));
  }

  remove(group: string, item: T): void {
    const items = this.#groups.get(group);
    items?.delete(item);
    if (items?.size === 0) this.#groups.delete(group);
  }

  of(group: string): ReadonlySet<T> {
    return this.#groups.get(group) ?? NONE;
  }

  has(group: string): boolean {
    return this.#groups.has(group);
  }

  names(): Iterable<string> {
    return this.#groups.keys();
  }
}
