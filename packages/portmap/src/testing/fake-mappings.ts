import type { Protocol } from "../gateway.ts";

/** A mapping that the fake holds. */
export interface FakeEntry {
  protocol: Protocol;
  externalPort: number;
  internalAddress: string;
  internalPort: number;
  description: string;
  remoteHost: string;
  /** By `performance.now()`. */
  expiresAtMs: number;
  /** Of PCP, in hexadecimal: who may delete it. */
  nonce?: string;
}

/** What a gateway knows, whichever protocol it was told by. */
export class FakeMappings {
  readonly #entries = new Map<string, FakeEntry>();

  /** The newest first, as miniupnpd lists them. */
  get all(): FakeEntry[] {
    for (const [key, { expiresAtMs }] of this.#entries) if (expiresAtMs <= performance.now()) this.#entries.delete(key);
    return [...this.#entries.values()].reverse();
  }

  find(protocol: Protocol, externalPort: number): FakeEntry | undefined {
    return this.all.find((entry) => entry.protocol === protocol && entry.externalPort === externalPort);
  }

  findInner(protocol: Protocol, internalAddress: string, internalPort: number): FakeEntry | undefined {
    return this.all.find(
      (entry) =>
        entry.protocol === protocol && entry.internalAddress === internalAddress && entry.internalPort === internalPort,
    );
  }

  set(entry: FakeEntry): void {
    this.#entries.set(`${entry.protocol} ${entry.externalPort}`, entry);
  }

  delete(protocol: Protocol, externalPort: number): void {
    this.#entries.delete(`${protocol} ${externalPort}`);
  }

  clear(): void {
    this.#entries.clear();
  }
}
