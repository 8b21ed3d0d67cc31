import { type Mapping, type MappingKey, type MapRequest, PortmapError } from "@isthmus/portmap";
import type { BindingGateway } from "../src/port-worker.ts";

export const OWN = "192.168.1.2";
export const OTHER = "192.168.1.3";

/** A gateway in memory whose calls end when the test says so, and fail as it says. */
export class MemoryGateway implements BindingGateway {
  gateway: BindingGateway["gateway"] = {
    kind: "upnp",
    address: "192.168.1.1",
    capabilities: { lookUp: true, list: true },
  };
  readonly mappings = new Map<string, Mapping>();
  /** Taken from the front by each call: an error before the call has its effect, or after it. */
  readonly failures: { error: PortmapError; isAfter: boolean }[] = [];
  calls = 0;
  /** Calls wait for it before they have their effect, and again before they answer. */
  gate: () => Promise<void> = async () => undefined;

  hold(protocol: "tcp" | "udp", port: number): void {
    this.mappings.set(`${protocol} ${port}`, mapping(protocol, port, OTHER, 600, "theirs"));
  }

  ports(owner: string): string[] {
    return [...this.mappings].filter(([, { internalAddress }]) => internalAddress === owner).map(([name]) => name);
  }

  async map(request: MapRequest): Promise<Mapping> {
    const { protocol, internalPort, lifetimeSeconds, description = "" } = request;
    return this.#call(() => {
      const name = `${protocol} ${internalPort}`;
      const holder = this.mappings.get(name)?.internalAddress;
      if (holder !== undefined && holder !== OWN) throw new PortmapError("conflict", undefined, { holder });
      const made = mapping(protocol, internalPort, OWN, lifetimeSeconds, description);
      this.mappings.set(name, made);
      return made;
    });
  }

  async unmap({ protocol, externalPort }: MappingKey): Promise<void> {
    return this.#call(() => {
      const name = `${protocol} ${externalPort}`;
      const holder = this.mappings.get(name)?.internalAddress;
      if (holder !== undefined && holder !== OWN) throw new PortmapError("conflict", undefined, { holder });
      this.mappings.delete(name);
    });
  }

  async list(): Promise<Mapping[]> {
    return this.#call(() => [...this.mappings.values()]);
  }

  async #call<T>(act: () => T): Promise<T> {
    this.calls++;
    const failure = this.failures.shift();
    await this.gate();
    if (!this.gateway) throw new PortmapError("unreachable");
    if (failure && !failure.isAfter) throw failure.error;
    const result = act();
    await this.gate();
    if (failure) throw failure.error;
    return result;
  }
}

function mapping(
  protocol: "tcp" | "udp",
  port: number,
  internalAddress: string,
  lifetimeSeconds: number,
  description: string,
): Mapping {
  return {
    protocol,
    externalPort: port,
    internalPort: port,
    internalAddress,
    lifetimeSeconds,
    description,
    enabled: true,
    remoteHost: "",
  };
}
