import { describePortmap, FakeGateway, type PortmapPlace } from "@isthmus/portmap/testing";

/** Addresses of the loopback network stand for hosts. */
async function place(igd: 1 | 2): Promise<PortmapPlace> {
  const gateway = await FakeGateway.start({ igd });
  return {
    hosts: ["127.0.0.2", "127.0.0.3"],
    gateway: gateway.settings.address,
    externalAddress: gateway.settings.externalAddress,
    ownPort: gateway.ports.web,
    optionsFor: (host) => gateway.optionsFor(host),
    forgivenMs: 0,
    stop: () => gateway.stop(),
    startAgain: () => gateway.startAgain(),
    remove: () => gateway.stop(),
  };
}

describePortmap("fake gateway, IGD 2", () => place(2));
describePortmap("fake gateway, IGD 1", () => place(1), ["upnp"]);
