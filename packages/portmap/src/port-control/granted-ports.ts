import type { Protocol } from "../gateway.ts";

/**
 * The inner ports that this process holds mappings of. NAT-PMP and PCP know one outer port per inner one: a refused wish
 * for another must not take away what is there.
 */
export class GrantedPorts {
  readonly #ports = new Set<string>();

  has(protocol: Protocol, internalPort: number): boolean {
    return this.#ports.has(`${protocol} ${internalPort}`);
  }

  add(protocol: Protocol, internalPort: number): void {
    this.#ports.add(`${protocol} ${internalPort}`);
  }

  delete(protocol: Protocol, internalPort: number): void {
    this.#ports.delete(`${protocol} ${internalPort}`);
  }
}
