import { deadline } from "../deadline.ts";
import type { CallOptions } from "../gateway.ts";
import { PortmapError } from "../portmap-error.ts";
import { defaultRoute, ownAddresses, type Route } from "../route.ts";
import { searchGateways } from "../upnp/ssdp-search.ts";
import { UpnpGateway } from "../upnp/upnp-gateway.ts";
import type { WanConnection } from "../upnp/wan-connection.ts";
import {
  type GetMappingsOptions,
  matches,
  type NatUpnpCallback,
  type NatUpnpMapping,
  type PortMappingOptions,
  type PortUnmappingOptions,
  toEndpoint,
  toProtocol,
  toSeconds,
} from "./nat-upnp-options.ts";

/** What nat-upnp has no word for; none is needed where the default route leads to the gateway. */
export interface NatUpnpSettings {
  /** @default the default route of this host */
  route?: () => Promise<Route | undefined>;
  /** @default 1900 */
  ssdpPort?: number;
}

export function createClient(settings: NatUpnpSettings = {}): NatUpnpClient {
  return new NatUpnpClient(settings);
}

/** nat-upnp's client. The gateway is searched for at the first call and remembered while it answers. */
export class NatUpnpClient {
  /** Milliseconds that a search may take. */
  timeout = 1800;
  readonly #settings: NatUpnpSettings;
  readonly #closing = new AbortController();
  #gateway: Promise<UpnpGateway> | undefined;

  constructor(settings: NatUpnpSettings) {
    this.#settings = settings;
  }

  portMapping(options: PortMappingOptions, callback: NatUpnpCallback<void> = ignore): void {
    this.#run(callback, async (gateway, connection) => {
      const [outer, inner] = [toEndpoint(options.public), toEndpoint(options.private)];
      const entry = {
        protocol: toProtocol(options.protocol),
        externalPort: outer.port,
        internalPort: inner.port,
        lifetimeSeconds: toSeconds(options.ttl),
        description: options.description || "node:nat:upnp",
      };
      if (outer.host === undefined) {
        const internal = inner.host === undefined ? {} : { internalAddress: inner.host };
        await gateway.map({ ...entry, ...internal }, this.#bounds());
      } else {
        const whole = { ...entry, internalAddress: inner.host, remoteHost: outer.host };
        await connection.addPortMapping(whole, { signal: deadline(this.#bounds()) });
      }
    });
  }

  portUnmapping(options: PortUnmappingOptions, callback: NatUpnpCallback<void> = ignore): void {
    this.#run(callback, async (gateway, connection) => {
      const { host, port } = toEndpoint(options.public);
      const key = { protocol: toProtocol(options.protocol), externalPort: port };
      if (host !== undefined)
        await connection.deletePortMapping({ ...key, remoteHost: host }, { signal: deadline(this.#bounds()) });
      else await gateway.unmap(key, this.#bounds());
    });
  }

  getMappings(callback: NatUpnpCallback<NatUpnpMapping[]>): void;
  getMappings(options: GetMappingsOptions | null, callback: NatUpnpCallback<NatUpnpMapping[]>): void;
  getMappings(
    options: GetMappingsOptions | null | NatUpnpCallback<NatUpnpMapping[]>,
    callback: NatUpnpCallback<NatUpnpMapping[]> = ignore,
  ): void {
    if (typeof options === "function") {
      this.getMappings(null, options);
      return;
    }
    this.#run(callback, async (gateway, connection) => {
      const entries = await gateway.list({ ...this.#bounds(), timeoutMs: LIST_TIMEOUT_MS });
      return entries
        .map((entry) => ({
          public: { host: entry.remoteHost, port: entry.externalPort },
          private: { host: entry.internalAddress, port: entry.internalPort },
          protocol: entry.protocol,
          enabled: entry.enabled,
          description: entry.description,
          ttl: entry.lifetimeSeconds,
          local: entry.internalAddress === connection.localAddress,
        }))
        .filter((mapping) => matches(mapping, options ?? {}));
    });
  }

  externalIp(callback: NatUpnpCallback<string>): void {
    this.#run(callback, (gateway) => gateway.externalAddress(this.#bounds()));
  }

  /** Ends what is under way: its callbacks get an error. */
  close(): void {
    this.#closing.abort();
  }

  #bounds(): CallOptions {
    return { signal: this.#closing.signal };
  }

  #run<T>(callback: NatUpnpCallback<T>, act: (gateway: UpnpGateway, connection: WanConnection) => Promise<T>): void {
    const work = this.#find().then(async (gateway) => act(gateway, await gateway.connect(deadline(this.#bounds()))));
    work.then(
      // An error of the callback's own is nobody's to catch.
      (result) => queueMicrotask(() => callback(null, result)),
      (error: PortmapError) => {
        if (error.code === "unreachable" || error.code === "timeout") this.#gateway = undefined;
        queueMicrotask(() => callback(error));
      },
    );
  }

  #find(): Promise<UpnpGateway> {
    this.#gateway ??= this.#search();
    const finding = this.#gateway;
    finding.catch(() => {
      if (this.#gateway === finding) this.#gateway = undefined;
    });
    return finding;
  }

  async #search(): Promise<UpnpGateway> {
    const { route: findRoute = defaultRoute, ssdpPort } = this.#settings;
    const route = await findRoute();
    if (!route) throw new PortmapError("unreachable");
    const [location] = await searchGateways({
      localAddress: route.localAddress,
      ...(ssdpPort !== undefined && { port: ssdpPort }),
      isEnough: () => true,
      signal: deadline({ signal: this.#closing.signal, timeoutMs: this.timeout }),
      windowMs: this.timeout,
    });
    if (!location) throw new PortmapError("timeout", "no gateway answered the search");
    return new UpnpGateway({ location, localAddress: route.localAddress, ownAddresses });
  }
}

/** Each entry is a question. */
const LIST_TIMEOUT_MS = 30_000;

function ignore(): void {
  // nat-upnp's callbacks may be left out.
}
