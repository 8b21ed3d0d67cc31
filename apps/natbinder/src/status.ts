import type { Binding, PortEntry, StateFile } from "@isthmus/binding";
import type { PortMapper } from "@isthmus/portmap";
import type { NatbinderPort, NatbinderStatus } from "@isthmus/protocol";
import { VERSION } from "@isthmus/service";
import { isAdminOwner } from "./open-sockets.ts";
import type { SystemWide } from "./system-wide.ts";

/** Of what only makes an answer richer. */
const RICHER_TIMEOUT_MS = 300;
/** So long the gateway is not asked again for its outer address. */
const ADDRESS_MS = 10_000;

export interface StatusOptions {
  binding: Binding;
  mapper: PortMapper;
  file: StateFile;
  systemWide: SystemWide;
}

/** What is said about a natbinder, to whoever may look. */
export class StatusReport {
  readonly #options: StatusOptions;
  readonly #started = new Date().toISOString();
  #address: { value: string | undefined; gateway: string | undefined; atMs: number } | undefined;

  constructor(options: StatusOptions) {
    this.#options = options;
  }

  async read(): Promise<NatbinderStatus> {
    const { binding, mapper, file, systemWide } = this.#options;
    const externalAddress = await this.#externalAddress();
    const { gateway } = mapper;
    return {
      version: VERSION,
      started: this.#started,
      pid: process.pid,
      ...(gateway && {
        gateway: { kind: gateway.kind, address: gateway.address, ...(externalAddress && { externalAddress }) },
      }),
      ...((systemWide.source || systemWide.trouble) && {
        systemWide: { source: systemWide.source?.name, trouble: systemWide.trouble },
      }),
      ...(file.trouble !== undefined && { diskTrouble: file.trouble }),
      ports: binding.entries.map(reportOf),
    };
  }

  async #externalAddress(): Promise<string | undefined> {
    const { mapper } = this.#options;
    const gateway = mapper.gateway?.address;
    const known = this.#address;
    if (known?.value && known.gateway === gateway && performance.now() - known.atMs < ADDRESS_MS) return known.value;
    const value = await mapper.externalAddress({ timeoutMs: RICHER_TIMEOUT_MS }).catch(() => undefined);
    this.#address = { value, gateway, atMs: performance.now() };
    return value;
  }
}

export function reportOf({ protocol, port, state, reason, leaseLeftSeconds, owners }: PortEntry): NatbinderPort {
  return {
    protocol,
    port,
    state,
    ...(reason && { reason }),
    ...(leaseLeftSeconds !== undefined && { leaseLeftS: Math.round(leaseLeftSeconds) }),
    owners: owners.map(({ program, pid, uid, since, socket }) => ({
      program,
      pid,
      uid,
      since: new Date(since * 1000).toISOString(),
      byAdmin: isAdminOwner(socket),
    })),
  };
}
