import { setTimeout as sleep } from "node:timers/promises";
import { deadline } from "./deadline.ts";
import type { Gateway, GatewayKind, GatewaySign } from "./gateway.ts";
import type { EpochClock } from "./port-control/epoch.ts";
import { NatPmpGateway } from "./port-control/nat-pmp-gateway.ts";
import { PcpGateway } from "./port-control/pcp-gateway.ts";
import type { Route } from "./route.ts";
import type { SsdpMessage } from "./upnp/ssdp-message.ts";
import { searchGateways } from "./upnp/ssdp-search.ts";
import { UpnpGateway } from "./upnp/upnp-gateway.ts";

/** How long a less preferred protocol that has answered waits for a better one. */
const GRACE_MS = 1000;

export interface FindOptions {
  route: Route;
  /** The most preferred first. */
  kinds: readonly GatewayKind[];
  ownAddresses: () => readonly string[];
  /** UPnP's description where it was found before: asked at once, beside the search. */
  location?: URL | undefined;
  nonceKey: Buffer;
  epochs: { pcp: EpochClock; natPmp: EpochClock };
  onSign: (gateway: Gateway, sign: GatewaySign) => void;
  onSsdpAnswer?: (message: SsdpMessage, from: string) => void;
  /** @default 1900 */
  ssdpPort?: number | undefined;
  /** @default 5351 */
  portControlPort?: number | undefined;
  signal?: AbortSignal | undefined;
}

/** The gateway of that route, by the most preferred protocol that it answers. All are asked at once. */
export async function findGateway(options: FindOptions): Promise<Gateway | undefined> {
  const signal = deadline(options.signal ? { signal: options.signal } : {});
  const probes = options.kinds.map((kind) => PROBES[kind](options, signal).catch(() => undefined));
  const first = Promise.any(
    probes.map(async (probe) => {
      if ((await probe) === undefined) throw new Error("no answer");
    }),
  );
  const grace = first.then(
    () => sleep(GRACE_MS, undefined, { ref: false }),
    () => undefined,
  );
  const late = Symbol("late");
  const missed: Promise<Gateway | undefined>[] = [];
  for (const probe of probes) {
    const gateway = await Promise.race([probe, grace.then(() => late)]);
    if (gateway === late) missed.push(probe);
    else if (gateway !== undefined) return gateway as Gateway;
  }
  return (await Promise.all(missed)).find((gateway) => gateway !== undefined);
}

const PROBES: Record<GatewayKind, (options: FindOptions, signal: AbortSignal) => Promise<Gateway | undefined>> = {
  upnp: findUpnp,
  pcp: async (options, signal) => {
    const gateway: PcpGateway = new PcpGateway({
      ...portControl(options),
      nonceKey: options.nonceKey,
      epoch: options.epochs.pcp,
      onSign: (sign) => options.onSign(gateway, sign),
    });
    await gateway.probe({ signal });
    return gateway;
  },
  "nat-pmp": async (options, signal) => {
    const gateway: NatPmpGateway = new NatPmpGateway({
      ...portControl(options),
      epoch: options.epochs.natPmp,
      onSign: (sign) => options.onSign(gateway, sign),
    });
    await gateway.probe({ signal });
    return gateway;
  },
};

function portControl({ route, portControlPort }: FindOptions): {
  address: string;
  localAddress: string;
  port?: number;
} {
  return {
    address: route.gateway,
    localAddress: route.localAddress,
    ...(portControlPort !== undefined && { port: portControlPort }),
  };
}

/** The default router's description before any other's: another device may only claim to be a gateway. */
async function findUpnp(options: FindOptions, signal: AbortSignal): Promise<Gateway | undefined> {
  const { route, location, ssdpPort } = options;
  const isRouter = (url: URL) => url.hostname === route.gateway;
  const open = async (url: URL) => {
    const gateway = new UpnpGateway({
      location: url,
      localAddress: route.localAddress,
      ownAddresses: options.ownAddresses,
    });
    await gateway.connect(signal);
    return gateway;
  };
  const known = location && isRouter(location) ? open(location).catch(() => undefined) : Promise.resolve(undefined);
  const searched = searchGateways({
    localAddress: route.localAddress,
    ...(ssdpPort !== undefined && { port: ssdpPort }),
    isEnough: isRouter,
    onAnswer: options.onSsdpAnswer,
    signal,
  }).then(async (locations) => {
    for (const url of locations.sort((a, b) => Number(isRouter(b)) - Number(isRouter(a)))) {
      const gateway = await open(url).catch(() => undefined);
      if (gateway) return gateway;
    }
    return undefined;
  });
  return (await known) ?? (await searched);
}
