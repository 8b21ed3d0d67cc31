/** Simulated time: events happen in order of their time, then of their making. */
export class Clock {
  #now = 0;
  #sequence = 0;
  readonly #queue: { at: number; order: number; run: () => void }[] = [];

  get now(): number {
    return this.#now;
  }

  at(time: number, run: () => void): () => void {
    const event = { at: Math.max(time, this.#now), order: this.#sequence++, run };
    this.#queue.push(event);
    this.#up(this.#queue.length - 1);
    return () => {
      event.run = () => undefined;
    };
  }

  after(delay: number, run: () => void): () => void {
    return this.at(this.#now + delay, run);
  }

  /** Runs until nothing is left to happen, or `until`. */
  run(until: number): void {
    for (let next = this.#queue[0]; next && next.at <= until; next = this.#queue[0]) {
      this.#now = next.at;
      this.#pop();
      next.run();
    }
    this.#now = until;
  }

  #before(a: number, b: number): boolean {
    const [x, y] = [this.#queue[a]!, this.#queue[b]!];
    return x.at < y.at || (x.at === y.at && x.order < y.order);
  }

  #swap(a: number, b: number): void {
    [this.#queue[a], this.#queue[b]] = [this.#queue[b]!, this.#queue[a]!];
  }

  #up(start: number): void {
    for (let child = start; child > 0; ) {
      const parent = (child - 1) >> 1;
      if (this.#before(parent, child)) return;
      this.#swap(parent, child);
      child = parent;
    }
  }

  #pop(): void {
    const last = this.#queue.pop()!;
    if (this.#queue.length === 0) return;
    this.#queue[0] = last;
    for (let parent = 0; ; ) {
      let least = parent;
      for (const child of [2 * parent + 1, 2 * parent + 2]) {
        if (child < this.#queue.length && this.#before(child, least)) least = child;
      }
      if (least === parent) return;
      this.#swap(parent, least);
      parent = least;
    }
  }
}

/** Seeded random numbers (mulberry32): a failing run is repeated by its seed. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** In [0, 1). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }

  between(low: number, high: number): number {
    return low + Math.floor(this.next() * (high - low + 1));
  }
}
