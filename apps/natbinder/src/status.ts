import type { Binding, PortEntry, ReachCheck, StateFile } from "@isthmus/binding";
import type { PortMapper } from "@isthmus/portmap";
import type { NatbinderPort, NatbinderReach, NatbinderStatus } from "@isthmus/protocol";
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
  reach: ReachCheck;
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
    const { binding, mapper, file, systemWide, reach } = this.#options;
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
      ports: binding.entries.map((entry) => reportOf(entry, reach)),
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

export function reportOf(entry: PortEntry, reach: ReachCheck): NatbinderPort {
  const { protocol, port, state, reason, leaseLeftSeconds, owners } = entry;
  return {
    protocol,
    port,
    state,
    ...(reason && { reason }),
    ...(leaseLeftSeconds !== undefined && { leaseLeftS: Math.round(leaseLeftSeconds) }),
    ...(state === "mapped" && { reachable: reachReport(entry, reach) }),
    owners: owners.map(({ program, pid, uid, since, socket }) => ({
      program,
      pid,
      uid,
      since: new Date(since * 1000).toISOString(),
      byAdmin: isAdminOwner(socket),
    })),
  };
}

function reachReport(entry: PortEntry, reach: ReachCheck): NatbinderReach {
  const { since, ...rest } = reach.of(entry);
  return { ...rest, ...(since && { since: since.toISOString() }) };
}
