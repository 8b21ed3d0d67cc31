import { expect } from "vitest";
import { type Store, scanAll } from "../src/index.ts";

/** A record's content: a number that its writer counts up, or undefined where it deleted. */
type Content = number | undefined;

interface Account {
  acknowledged: { content: Content; version: number };
  /** Asked for after that, with no answer. */
  tried?: { content: Content };
}

/** What writers were told, to be compared with what a store holds after a crash. Each key has one writer. */
export class Ledger {
  readonly #accounts = new Map<string, Account>();
  acknowledged = 0;

  tried(key: string, content: Content): void {
    const account = this.#accounts.get(key) ?? { acknowledged: { content: undefined, version: 0 } };
    this.#accounts.set(key, { ...account, tried: { content } });
  }

  done(key: string, content: Content, version: number): void {
    this.#accounts.set(key, { acknowledged: { content, version } });
    this.acknowledged++;
  }

  /** Every record is as acknowledged last, or as was asked for after that; none is there that nobody wrote. */
  async check(store: Store): Promise<void> {
    const found = new Map<string, { content: Content; version: number }>();
    for await (const { key, value, version } of scanAll(store, "")) {
      found.set(key, { content: (value as { n: number }).n, version });
    }
    for (const [key, { acknowledged, tried }] of this.#accounts) {
      const { content, version } = found.get(key) ?? { content: undefined, version: 0 };
      found.delete(key);
      const asAcknowledged =
        content === acknowledged.content && (content === undefined || version === acknowledged.version);
      const asTried =
        tried !== undefined && content === tried.content && (content === undefined || version > acknowledged.version);
      expect(asAcknowledged || asTried, `${key}: ${JSON.stringify({ content, version, acknowledged, tried })}`).toBe(
        true,
      );
    }
    expect([...found.keys()]).toEqual([]);
  }
}
