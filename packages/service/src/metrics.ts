import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";

/**
 * The metrics of one process. Names are `isthmus_<part>_<noun>_<unit>`; each has its help text where it is made, and
 * a reason is a label value out of protocol's codes.
 */
export class Metrics {
  readonly #registry = new Registry();
  readonly #prefix: string;

  constructor(part: "isb" | "ist" | "daemon" | "natbinder") {
    this.#prefix = `isthmus_${part}_`;
  }

  /** Adds what Node knows of itself (memory, loop delay). Not for tests: it starts timers. */
  collectProcess(): void {
    collectDefaultMetrics({ register: this.#registry, prefix: this.#prefix });
  }

  counter<L extends string = never>(name: string, help: string, labels: readonly L[] = []): Counter<L> {
    return new Counter({ name: this.#prefix + name, help, labelNames: labels, registers: [this.#registry] });
  }

  /** @param read called at each scrape */
  gauge(name: string, help: string, read: () => number): void {
    new Gauge({
      name: this.#prefix + name,
      help,
      registers: [this.#registry],
      collect() {
        this.set(read());
      },
    });
  }

  /** What does not change and is no number: the gauge is 1, its labels are what there is to say. */
  info<L extends string>(
    name: string,
    help: string,
    labels: readonly L[],
    read: () => Record<L, string> | undefined,
  ): void {
    new Gauge({
      name: this.#prefix + name,
      help,
      labelNames: labels,
      registers: [this.#registry],
      collect() {
        this.reset();
        const values = read();
        if (values) this.set(values as Partial<Record<L, string>>, 1);
      },
    });
  }

  histogram(name: string, help: string, buckets: number[]): Histogram {
    return new Histogram({ name: this.#prefix + name, help, buckets, registers: [this.#registry] });
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** The text that a Prometheus server scrapes. */
  scrape(): Promise<string> {
    return this.#registry.metrics();
  }

  /** One counter's value, for tests and status pages; labels must fit exactly. */
  async value(name: string, labels: Record<string, string> = {}): Promise<number> {
    const metric = await this.#registry.getSingleMetric(this.#prefix + name)?.get();
    const match = metric?.values.find(
      (sample) =>
        Object.keys(sample.labels).length === Object.keys(labels).length &&
        Object.entries(labels).every(([key, value]) => sample.labels[key] === value),
    );
    return match?.value ?? 0;
  }
}
