import { isIP } from "node:net";
import natUpnp, { createClient, type NatUpnpClient, type NatUpnpMapping } from "@isthmus/portmap/nat-upnp";
import type { FakeGateway } from "@isthmus/portmap/testing";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { HOST, OTHER_HOST, startFake, upnpAt } from "./gateway-at.ts";

type Callback<T> = (error: Error | null, result?: T) => void;

/** nat-upnp's callbacks as promises. */
function called<T>(call: (callback: Callback<T>) => void): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    call((error, result) => (error == null ? resolve(result) : reject(error)));
  });
}

function randomPort(): number {
  return 1024 + Math.floor(Math.random() * 60_000);
}

describe.each([1, 2] as const)("nat-upnp's own calls, with IGD %d", (igd) => {
  let fake: FakeGateway;
  let client: NatUpnpClient;

  beforeEach(async () => {
    fake = await startFake({ igd });
    client = createClient({ route: fake.optionsFor(HOST).route, ssdpPort: fake.ports.ssdp });
  });
  afterEach(() => client.close());

  it("the usage of its README", async () => {
    await called((done) => client.portMapping({ public: 12_345, private: 54_321, ttl: 10 }, done));
    expect(fake.mappings.all).toEqual([
      expect.objectContaining({
        protocol: "tcp",
        externalPort: 12_345,
        internalPort: 54_321,
        internalAddress: HOST,
        description: "node:nat:upnp",
      }),
    ]);
    const mapping: NatUpnpMapping = {
      public: { host: "", port: 12_345 },
      private: { host: HOST, port: 54_321 },
      protocol: "tcp",
      enabled: true,
      description: "node:nat:upnp",
      ttl: 10,
      local: true,
    };
    expect(await called((done) => client.getMappings(done))).toEqual([mapping]);
    expect(await called((done) => client.getMappings({ local: true }, done))).toEqual([mapping]);
    expect(await called((done) => client.externalIp(done))).toBe(fake.settings.externalAddress);

    client.portUnmapping({ public: 12_345 });
    await expect.poll(() => fake.mappings.all).toEqual([]);
  });

  it("its test: should add port mapping/unmapping", async () => {
    const outside = randomPort();
    await called((done) => client.portMapping({ public: outside, private: randomPort(), ttl: 0 }, done));
    expect(fake.mappings.find("tcp", outside)).toBeDefined();
    await called((done) => client.portUnmapping({ public: outside }, done));
    expect(fake.mappings.all).toEqual([]);
  });

  it("its test: should find port after mapping", async () => {
    const options = { public: randomPort(), private: randomPort(), description: "node:nat:upnp:search-test", ttl: 0 };
    await called((done) => client.portMapping(options, done));
    const list = await called<NatUpnpMapping[]>((done) =>
      client.getMappings({ local: true, description: /search-test/ }, done),
    );
    expect(list!.length).toBeGreaterThan(0);
    for (const item of list!) await called((done) => client.portUnmapping(item, done));
    expect(fake.mappings.all).toEqual([]);
  });

  it("its test: should get external ip address", async () => {
    expect(isIP((await called((done) => client.externalIp(done)))!)).toBe(4);
  });

  it("ports in digits, UDP in any case, half an hour by default, another host of its own", async () => {
    await called((done) => client.portMapping({ public: "4000", private: { port: 4001 }, protocol: "udp" }, done));
    await called((done) =>
      client.portMapping({ public: { host: "11.1.1.1", port: 4002 }, private: 4002, protocol: "Udp" }, done),
    );
    const list = (await called<NatUpnpMapping[]>((done) => client.getMappings(done)))!;
    expect(list).toMatchObject([
      { public: { host: "11.1.1.1", port: 4002 }, protocol: "udp", ttl: 1800 },
      { public: { host: "", port: 4000 }, private: { host: HOST, port: 4001 }, protocol: "udp", ttl: 1800 },
    ]);
    for (const item of list) await called((done) => client.portUnmapping(item, done));
    expect(fake.mappings.all).toEqual([]);
  });

  it("lists other hosts' mappings unless only local ones are asked for", async () => {
    await upnpAt(fake, OTHER_HOST).map({
      protocol: "tcp",
      internalPort: 5000,
      lifetimeSeconds: 60,
      description: "x y",
    });
    const list = (options: { local?: boolean; description?: string }) =>
      called<NatUpnpMapping[]>((done) => client.getMappings(options, done));
    expect(await list({})).toMatchObject([{ private: { host: OTHER_HOST }, local: false }]);
    expect(await list({ description: "x" })).toHaveLength(1);
    expect(await list({ description: "z" })).toEqual([]);
    expect(await list({ local: true })).toEqual([]);
  });

  it("gives what nat-upnp loses: whose port it is", async () => {
    await upnpAt(fake, OTHER_HOST).map({ protocol: "tcp", internalPort: 5000, lifetimeSeconds: 60 });
    const asked = called((done) => client.portMapping({ public: 5000, private: 5000 }, done));
    await expect(asked).rejects.toMatchObject({ code: "conflict", gatewayCode: 718, holder: OTHER_HOST });
    await expect(called((done) => client.portUnmapping({ public: 5000 }, done))).rejects.toMatchObject({
      code: "conflict",
    });
  });

  it("finds the gateway again after it has moved to another port", async () => {
    await called((done) => client.externalIp(done));
    const searches = fake.ssdp.searches;
    await called((done) => client.externalIp(done));
    expect(fake.ssdp.searches).toBe(searches);
    await fake.web.stop();
    await expect(called((done) => client.externalIp(done))).rejects.toMatchObject({ code: "unreachable" });
    await fake.web.start(fake.ports.web);
    expect(await called((done) => client.externalIp(done))).toBe(fake.settings.externalAddress);
  });
});

it("no gateway: an error after the time-out, to every callback and to none", async () => {
  const fake = await startFake({ igd: 0 });
  const client = natUpnp.createClient({ route: fake.optionsFor(HOST).route, ssdpPort: fake.ports.ssdp });
  client.timeout = 50;
  client.portMapping({ public: 1024, private: 1024 });
  client.portUnmapping({ public: 1024 });
  await expect(called((done) => client.externalIp(done))).rejects.toMatchObject({ code: "timeout" });
  await expect(called((done) => client.portMapping({ public: 0, private: 1 }, done))).rejects.toThrow();
  client.close();
});

it.each([
  [{ public: 0, private: 1 }],
  [{ public: "x", private: 1 }],
  [{ public: 1, private: { port: 70_000 } }],
  [{ public: 1, private: 1, protocol: "sctp" }],
])("%j is refused before anybody is asked", async (options) => {
  const fake = await startFake();
  const client = createClient({ route: fake.optionsFor(HOST).route, ssdpPort: fake.ports.ssdp });
  await expect(called((done) => client.portMapping(options, done))).rejects.toMatchObject({ code: "invalid" });
  expect(fake.web.asked.get("AddPortMapping")).toBeUndefined();
  client.close();
});
