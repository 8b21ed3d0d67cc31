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

/**
 * The gateway of that route, by the most preferred protocol that it answers. All are asked at once. Another device that
 * only claims to be a gateway is the last resort.
 */
export async function findGateway(options: FindOptions): Promise<Gateway | undefined> {
  const signal = deadline(options.signal ? { signal: options.signal } : {});
  const upnp = options.kinds.includes("upnp") ? searchUpnp(options, signal) : NO_UPNP;
  const asked: Record<GatewayKind, () => Promise<Gateway | undefined>> = {
    upnp: upnp.router,
    pcp: () => findPcp(options, signal),
    "nat-pmp": () => findNatPmp(options, signal),
  };
  const probes = [...options.kinds.map((kind) => asked[kind]), upnp.elsewhere].map((probe) =>
    probe().catch(() => undefined),
  );
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

async function findPcp(options: FindOptions, signal: AbortSignal): Promise<Gateway> {
  const gateway: PcpGateway = new PcpGateway({
    ...portControl(options),
    nonceKey: options.nonceKey,
    epoch: options.epochs.pcp,
    onSign: (sign) => options.onSign(gateway, sign),
  });
  await gateway.probe({ signal });
  return gateway;
}

async function findNatPmp(options: FindOptions, signal: AbortSignal): Promise<Gateway> {
  const gateway: NatPmpGateway = new NatPmpGateway({
    ...portControl(options),
    epoch: options.epochs.natPmp,
    onSign: (sign) => options.onSign(gateway, sign),
  });
  await gateway.probe({ signal });
  return gateway;
}

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

interface UpnpSearch {
  /** The default router by UPnP. */
  router: () => Promise<Gateway | undefined>;
  /** Any other device. */
  elsewhere: () => Promise<Gateway | undefined>;
}

const NO_UPNP: UpnpSearch = { router: async () => undefined, elsewhere: async () => undefined };

function searchUpnp(options: FindOptions, signal: AbortSignal): UpnpSearch {
  const { route, location, ssdpPort } = options;
  const isRouter = (url: URL) => url.hostname === route.gateway;
  const found = searchGateways({
    localAddress: route.localAddress,
    ...(ssdpPort !== undefined && { port: ssdpPort }),
    isEnough: isRouter,
    onAnswer: options.onSsdpAnswer,
    signal,
  });
  const open = async (urls: URL[]) => {
    for (const url of urls) {
      const { localAddress } = route;
      const gateway = new UpnpGateway({ location: url, localAddress, ownAddresses: options.ownAddresses });
      const isSound = await gateway.connect(signal).then(
        () => true,
        () => false,
      );
      if (isSound) return gateway;
    }
    return undefined;
  };
  return {
    router: async () => {
      const known = location && isRouter(location) ? await open([location]) : undefined;
      return known ?? (await open((await found).filter(isRouter)));
    },
    elsewhere: async () => open((await found).filter((url) => !isRouter(url))),
  };
}
