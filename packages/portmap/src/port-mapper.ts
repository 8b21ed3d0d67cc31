import { randomBytes } from "node:crypto";
import { Announcements } from "./announcements.ts";
import { findGateway } from "./find-gateway.ts";
import {
  type CallOptions,
  GATEWAY_KINDS,
  type Gateway,
  type GatewayCapabilities,
  type GatewayKind,
  type GatewaySign,
  type Mapping,
  type MappingKey,
  type MapRequest,
} from "./gateway.ts";
import { EpochClock, natPmpEpochHolds, pcpEpochHolds } from "./port-control/epoch.ts";
import type { NatPmpAnswer } from "./port-control/nat-pmp-packet.ts";
import type { PcpAnswer } from "./port-control/pcp-packet.ts";
import { PortmapError } from "./portmap-error.ts";
import { defaultRoute, ownAddresses, type Route } from "./route.ts";
import { BootWatch } from "./upnp/boot-watch.ts";
import { checkedLocation, isOfGateway, type SsdpMessage } from "./upnp/ssdp-message.ts";
import { UpnpGateway } from "./upnp/upnp-gateway.ts";

const CHECK_MS = 30_000;
/** Checks without an answer after which a gateway is gone. */
const MOST_SILENT_CHECKS = 2;
const FIRST_SEARCH_AGAIN_MS = 2000;
const LONGEST_SEARCH_AGAIN_MS = 30_000;

/** Where UPnP was found: asked at the next start without waiting for a search. */
export interface GatewayMemory {
  /** The router's address. */
  gateway: string;
  /** Of UPnP's description. */
  location: string;
}

export type PortMapperEvent =
  /** A gateway answers: every mapping has to be made, or looked after. */
  | { event: "found"; kind: GatewayKind; address: string }
  /** It has lost what it knew: every mapping has to be made again. May come twice for one restart. */
  | { event: "restarted"; why: "bootid" | "epoch" }
  /** Where the world sees this network has changed. */
  | { event: "address"; from: string; to: string }
  /** No gateway answers; one is searched for. */
  | { event: "gone"; why: "goodbye" | "silent" | "moved" };

export interface PortMapperOptions {
  onEvent?: (event: PortMapperEvent) => void;
  /** The protocols to try, the most preferred first. @default all: upnp, pcp, nat-pmp */
  kinds?: readonly GatewayKind[];
  /** What {@link PortMapper.memory} was before. */
  memory?: GatewayMemory | undefined;
  /** Kept across restarts, so that PCP mappings can be deleted after one. @default random */
  nonceKey?: Buffer;
  /** The way to the gateway. @default the default route of this host */
  route?: () => Promise<Route | undefined>;
  /** Addresses that are no other host's. @default all of this host */
  ownAddresses?: () => readonly string[];
  /** Between two looks at the gateway. @default 30000 */
  checkMs?: number;
  /** For gateways on other ports than the standards'. */
  ports?: { ssdp?: number; portControl?: number; announcements?: number };
}

/**
 * The gateway of this host's network, whichever protocol it speaks: found, remembered, watched, and found again. Calls
 * reject with `unreachable` while there is none.
 */
export class PortMapper {
  readonly #options: PortMapperOptions;
  readonly #nonceKey: Buffer;
  readonly #boots = new BootWatch();
  readonly #epochs = { pcp: new EpochClock(pcpEpochHolds), natPmp: new EpochClock(natPmpEpochHolds) };
  readonly #announcements: Announcements;
  readonly #stopping = new AbortController();
  #route: Route | undefined;
  #gateway: Gateway | undefined;
  #memory: GatewayMemory | undefined;
  #externalAddress: string | undefined;
  #foundAtMs = 0;
  #silentChecks = 0;
  #searchAgainMs = FIRST_SEARCH_AGAIN_MS;
  #searching: Promise<void> | undefined;
  #wantsSearch = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: PortMapperOptions = {}) {
    this.#options = options;
    this.#memory = options.memory;
    this.#nonceKey = options.nonceKey ?? randomBytes(32);
    const { ssdp, announcements } = options.ports ?? {};
    this.#announcements = new Announcements(
      { onSsdp: this.#hearSsdp, onPcp: this.#hearPcp, onNatPmp: this.#hearNatPmp },
      { ...(ssdp !== undefined && { ssdp }), ...(announcements !== undefined && { portControl: announcements }) },
    );
  }

  /** Resolves when the first search is over, whatever it found. */
  async start(): Promise<void> {
    await this.#search();
  }

  /** Ends all that this object does by itself. Mappings stay. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    clearTimeout(this.#timer);
    this.#announcements.stop();
    await this.#searching;
  }

  /** What there is now; undefined while nothing answers. */
  get gateway(): { kind: GatewayKind; address: string; capabilities: GatewayCapabilities } | undefined {
    if (!this.#gateway) return undefined;
    const { kind, address, capabilities } = this.#gateway;
    return { kind, address, capabilities };
  }

  /** To be kept, and given to the next object of this class; undefined while UPnP was not found. */
  get memory(): GatewayMemory | undefined {
    return this.#memory;
  }

  map(request: MapRequest, options?: CallOptions): Promise<Mapping> {
    return this.#ask((gateway) => gateway.map(request, options));
  }

  unmap(key: MappingKey, options?: CallOptions): Promise<void> {
    return this.#ask((gateway) => gateway.unmap(key, options));
  }

  lookUp(key: MappingKey, options?: CallOptions): Promise<Mapping | undefined> {
    return this.#ask((gateway) => gateway.lookUp(key, options));
  }

  list(options?: CallOptions): Promise<Mapping[]> {
    return this.#ask((gateway) => gateway.list(options));
  }

  async externalAddress(options?: CallOptions): Promise<string> {
    const address = await this.#ask((gateway) => gateway.externalAddress(options));
    this.#noteAddress(address);
    return address;
  }

  /** Looks at route and gateway now, instead of at the next turn: after a sign that something changed. */
  async check(): Promise<void> {
    clearTimeout(this.#timer);
    const gateway = this.#gateway;
    if (!gateway) return this.#search();
    const route = await this.#findRoute();
    if (route?.gateway !== this.#route?.gateway || route?.localAddress !== this.#route?.localAddress) {
      this.#lose("moved");
      return this.#search();
    }
    try {
      const address = await gateway.probe({ signal: this.#stopping.signal });
      this.#silentChecks = 0;
      if (address !== undefined && gateway === this.#gateway) this.#noteAddress(address);
    } catch {
      this.#silentChecks++;
    }
    if (gateway === this.#gateway && this.#silentChecks >= MOST_SILENT_CHECKS) {
      this.#lose("silent");
      return this.#search();
    }
    this.#schedule();
  }

  async #ask<T>(act: (gateway: Gateway) => Promise<T>): Promise<T> {
    if (!this.#gateway) throw new PortmapError("unreachable");
    return act(this.#gateway);
  }

  /** One search at a time; a wish for another while one runs is one for another after it. */
  #search(): Promise<void> {
    if (this.#searching) {
      this.#wantsSearch = true;
      return this.#searching;
    }
    this.#searching = this.#searchUntilDone().finally(() => {
      this.#searching = undefined;
      this.#schedule();
    });
    return this.#searching;
  }

  async #searchUntilDone(): Promise<void> {
    do {
      this.#wantsSearch = false;
      await this.#searchOnce();
    } while (this.#wantsSearch && !this.#gateway && !this.#stopping.signal.aborted);
  }

  async #searchOnce(): Promise<void> {
    const { kinds = GATEWAY_KINDS, ports = {} } = this.#options;
    const { signal } = this.#stopping;
    const route = await this.#findRoute();
    if (signal.aborted) return;
    await this.#follow(route);
    if (!route || signal.aborted) return;
    const memory = this.#memory?.gateway === route.gateway ? this.#memory : undefined;
    const gateway = await findGateway({
      route,
      kinds,
      ownAddresses: this.#options.ownAddresses ?? ownAddresses,
      location: memory && checkedLocation(memory.location, route.gateway),
      nonceKey: this.#nonceKey,
      epochs: this.#epochs,
      onSign: this.#hearSign,
      onSsdpAnswer: (message, from) => this.#boots.hear(message, from),
      ssdpPort: ports.ssdp,
      portControlPort: ports.portControl,
      signal,
    });
    if (!gateway || signal.aborted) return;
    this.#adopt(gateway, route);
  }

  /** Announcements are heard on the network of the route. */
  async #follow(route: Route | undefined): Promise<void> {
    if (route?.localAddress === this.#route?.localAddress && route?.gateway === this.#route?.gateway) return;
    this.#announcements.stop();
    this.#epochs.pcp.reset();
    this.#epochs.natPmp.reset();
    this.#route = route;
    if (route) await this.#announcements.start(route.localAddress);
    if (this.#stopping.signal.aborted) this.#announcements.stop();
  }

  #adopt(gateway: Gateway, route: Route): void {
    this.#gateway = gateway;
    this.#foundAtMs = performance.now();
    this.#silentChecks = 0;
    this.#searchAgainMs = FIRST_SEARCH_AGAIN_MS;
    if (gateway instanceof UpnpGateway) {
      this.#memory = { gateway: route.gateway, location: gateway.location.href };
    }
    this.#emit({ event: "found", kind: gateway.kind, address: gateway.address });
  }

  #lose(why: "goodbye" | "silent" | "moved"): void {
    if (!this.#gateway) return;
    this.#gateway = undefined;
    this.#emit({ event: "gone", why });
  }

  #schedule(): void {
    clearTimeout(this.#timer);
    if (this.#stopping.signal.aborted) return;
    let waitMs = this.#options.checkMs ?? CHECK_MS;
    if (!this.#gateway) {
      waitMs = this.#searchAgainMs;
      this.#searchAgainMs = Math.min(waitMs * 2, LONGEST_SEARCH_AGAIN_MS);
    }
    this.#timer = setTimeout(() => void this.check(), waitMs);
    this.#timer.unref();
  }

  #findRoute(): Promise<Route | undefined> {
    return (this.#options.route ?? defaultRoute)().catch(() => undefined);
  }

  readonly #hearSign = (gateway: Gateway, sign: GatewaySign): void => {
    if (gateway !== this.#gateway) return;
    if (sign.sign === "restarted") this.#emit({ event: "restarted", why: sign.why });
    else this.#noteAddress(sign.address);
  };

  readonly #hearSsdp = (message: SsdpMessage, from: string): void => {
    const gateway = this.#gateway;
    if (!isOfGateway(message) || from !== (gateway?.address ?? this.#route?.gateway)) return;
    const change = this.#boots.hear(message, from);
    if (!gateway) {
      if (message.kind === "alive") void this.#search();
    } else if (change === "gone" && gateway.kind === "upnp") {
      this.#lose("goodbye");
      this.#schedule();
    } else if (change === "restarted") {
      this.#restart(gateway, message);
    }
  };

  #restart(gateway: Gateway, message: SsdpMessage): void {
    if (gateway instanceof UpnpGateway) {
      gateway.forget();
      if (message.location !== undefined && message.location !== gateway.location.href) {
        // The port of its description is another one now.
        this.#lose("goodbye");
        void this.#search();
        return;
      }
    }
    this.#emit({ event: "restarted", why: "bootid" });
  }

  readonly #hearPcp = (answer: PcpAnswer, from: string): void => {
    if (from !== this.#route?.gateway || answer.opcode !== "announce") return;
    this.#hearEpoch(answer.epoch, this.#epochs.pcp.hear(answer.epoch));
  };

  readonly #hearNatPmp = (answer: NatPmpAnswer, from: string): void => {
    if (from !== this.#route?.gateway || answer.about.kind !== "address" || answer.result !== 0) return;
    this.#hearEpoch(answer.epoch, this.#epochs.natPmp.hear(answer.epoch));
    if (this.#gateway && answer.about.address !== "0.0.0.0") this.#noteAddress(answer.about.address);
  };

  #hearEpoch(epoch: number, holds: boolean): void {
    // A gateway may announce itself by a protocol that it was never asked by: it cannot be younger than its being found.
    const isOld = natPmpEpochHolds({ epoch: 0, atMs: this.#foundAtMs }, { epoch, atMs: performance.now() });
    if (!this.#gateway) void this.#search();
    else if (!holds || !isOld) {
      if (this.#gateway instanceof UpnpGateway) this.#gateway.forget();
      this.#foundAtMs = performance.now() - epoch * 1000;
      this.#emit({ event: "restarted", why: "epoch" });
    }
  }

  #noteAddress(to: string): void {
    const from = this.#externalAddress;
    this.#externalAddress = to;
    if (from !== undefined && from !== to) this.#emit({ event: "address", from, to });
  }

  #emit(event: PortMapperEvent): void {
    if (!this.#stopping.signal.aborted) this.#options.onEvent?.(event);
  }
}
