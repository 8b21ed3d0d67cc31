import { UpnpGateway } from "@isthmus/portmap";
import { FakeGateway, type FakeSettings } from "@isthmus/portmap/testing";
import { afterEach } from "vitest";

/** Two hosts of the loopback network. */
export const HOST = "127.0.0.2";
export const OTHER_HOST = "127.0.0.3";

const running: FakeGateway[] = [];

afterEach(async () => {
  await Promise.all(running.splice(0).map((gateway) => gateway.stop({ goodbye: false })));
});

/** A fake gateway that ends with the test. */
export async function startFake(settings: Partial<FakeSettings> = {}, like?: FakeGateway): Promise<FakeGateway> {
  const gateway = await FakeGateway.start(settings, like);
  running.push(gateway);
  return gateway;
}

/** The fake by UPnP, from one of the hosts. */
export function upnpAt(gateway: FakeGateway, localAddress: string = HOST): UpnpGateway {
  return new UpnpGateway({
    location: new URL(gateway.location),
    localAddress,
    ownAddresses: () => [localAddress],
  });
}
