import { PortMapper, type PortMapperOptions } from "@isthmus/portmap";
import { EventLog, type FakeGateway } from "@isthmus/portmap/testing";
import { afterEach, describe, expect, it } from "vitest";
import { sendFrom } from "../src/testing/fake-ssdp.ts";
import { SSDP_GROUP } from "../src/upnp/ssdp-message.ts";
import { HOST, OTHER_HOST, startFake } from "./gateway-at.ts";

const TCP = { protocol: "tcp", internalPort: 7000, lifetimeSeconds: 600 } as const;
const IGD_TYPE = "urn:schemas-upnp-org:device:InternetGatewayDevice:1";

const mappers: PortMapper[] = [];
afterEach(() => Promise.all(mappers.splice(0).map((mapper) => mapper.stop())));

async function start(
  fake: FakeGateway,
  options: PortMapperOptions = {},
): Promise<{ mapper: PortMapper; log: EventLog; events: () => string[] }> {
  const log = new EventLog();
  const mapper = new PortMapper({ ...fake.optionsFor(HOST), onEvent: log.add, ...options });
  mappers.push(mapper);
  await mapper.start();
  return { mapper, log, events: () => log.all.map(({ event }) => event) };
}

describe("which protocol is taken", () => {
  it.each([
    [{}, "upnp"],
    [{ igd: 0 }, "pcp"],
    [{ igd: 0, pcp: false }, "nat-pmp"],
    [{ web: "garbage" }, "pcp"],
    [{ location: "http://127.0.0.9:1/" }, "pcp"],
    [{ web: "hang", datagrams: "garbage" }, undefined],
  ] as const)("of %j: %s", async (settings, kind) => {
    const { mapper } = await start(await startFake(settings));
    expect(mapper.gateway?.kind).toBe(kind);
  });

  it("follows the caller's order", async () => {
    const { mapper } = await start(await startFake(), { kinds: ["nat-pmp", "upnp"] });
    expect(mapper.gateway?.kind).toBe("nat-pmp");
  });

  it("none without a route", async () => {
    const { mapper, events } = await start(await startFake(), { route: () => Promise.resolve(undefined) });
    await expect(mapper.map(TCP)).rejects.toMatchObject({ code: "unreachable" });
    expect(events()).toEqual([]);
  });
});

describe("what is remembered", () => {
  it("one search serves any number of calls", async () => {
    const fake = await startFake();
    const { mapper } = await start(fake);
    const searches = fake.ssdp.searches;
    await Promise.all(Array.from({ length: 30 }, (_, index) => mapper.map({ ...TCP, internalPort: 8000 + index })));
    await mapper.list();
    expect(fake.ssdp.searches).toBe(searches);
    expect(fake.web.asked.get("description")).toBe(1);
  });

  it("where UPnP was is asked without a search, and no other host", async () => {
    const fake = await startFake({ pcp: false, natPmp: false });
    const { memory } = (await start(fake)).mapper;
    const { ports, ...options } = fake.optionsFor(HOST);
    const deaf = { ...options, ports: { ...ports, ssdp: ports.announcements! } };
    expect((await start(fake, { ...deaf, memory })).mapper.gateway?.kind).toBe("upnp");
    const elsewhere = { gateway: "127.0.0.1", location: memory!.location.replace("127.0.0.1", "127.0.0.9") };
    expect((await start(fake, { ...deaf, memory: elsewhere })).mapper.gateway).toBeUndefined();
  });
});

describe("a gateway that starts anew", () => {
  it("is noticed by its boot id, without a goodbye, and described anew", async () => {
    const fake = await startFake();
    const { mapper, log } = await start(fake);
    await fake.restart({ goodbye: false });
    await log.next({ event: "restarted", why: "bootid" });
    await mapper.map(TCP);
    expect(fake.web.asked.get("description")).toBe(2);
  });

  it("is noticed by its goodbye where it has no boot id", async () => {
    const fake = await startFake({ announcesBootId: false });
    const { log } = await start(fake);
    await fake.restart();
    await log.next({ event: "gone", why: "goodbye" });
    await log.next({ event: "found", kind: "upnp" });
  });

  it("is noticed by PCP's announcement though UPnP is spoken", async () => {
    const fake = await startFake();
    const { log } = await start(fake);
    await fake.restart({ goodbye: false, silent: true });
    await fake.announcePortControl();
    await log.next({ event: "restarted", why: "epoch" });
  });

  it("is found though it said nothing and was away for long", async () => {
    const fake = await startFake();
    const { mapper, log } = await start(fake, { checkMs: 20 });
    await fake.stop({ goodbye: false });
    await log.next({ event: "gone", why: "silent" });
    expect(mapper.gateway).toBeUndefined();
    await fake.startAgain({ silent: true });
    await log.next({ event: "found", kind: "upnp" });
  });

  it("is none that was there from the first", async () => {
    const fake = await startFake();
    const { mapper, events } = await start(fake);
    for (let turn = 0; turn < 3; turn++) {
      await fake.announce();
      await mapper.check();
    }
    expect(events()).toEqual(["found"]);
  });
});

describe("the outer address", () => {
  it("that changed is told at the next look", async () => {
    const fake = await startFake();
    const { mapper, log } = await start(fake);
    await mapper.check();
    fake.settings.externalAddress = "11.99.0.2";
    await mapper.check();
    await log.next({ event: "address", from: "11.99.0.1", to: "11.99.0.2" });
  });

  it("that changed is told when NAT-PMP announces it", async () => {
    const fake = await startFake();
    const { mapper, log } = await start(fake);
    await mapper.externalAddress();
    fake.settings.externalAddress = "11.99.0.2";
    await fake.announcePortControl();
    await log.next({ event: "address", to: "11.99.0.2" });
  });

  it("a boot id that is announced to change with it is no restart", async () => {
    const fake = await startFake();
    const { mapper, events } = await start(fake);
    await fake.ssdp.notify("update", fake.ports.ssdp, 7);
    await fake.announce();
    await mapper.check();
    expect(events()).toEqual(["found"]);
  });
});

it("another network is another gateway", async () => {
  const home = await startFake();
  const work = await startFake({ address: "127.0.0.4", externalAddress: "11.99.0.4" }, home);
  let here = home;
  const { mapper, log } = await start(home, { route: () => here.optionsFor(HOST).route() });
  here = work;
  await mapper.check();
  await log.next({ event: "gone", why: "moved" });
  await log.next({ event: "found", kind: "upnp", address: "127.0.0.4" });
  await mapper.map(TCP);
  expect([home.mappings.all.length, work.mappings.all.length]).toEqual([0, 1]);
});

describe("a device that only claims to be the gateway", () => {
  it.each([
    [{ igd: 0 }, "pcp", "127.0.0.1"],
    [{ igd: 0, pcp: false, natPmp: false }, "upnp", "127.0.0.4"],
  ] as const)("is the last resort: with a router of %j it is %s at %s", async (settings, kind, address) => {
    const router = await startFake(settings);
    await startFake({ address: "127.0.0.4" }, router);
    const { mapper } = await start(router);
    expect(mapper.gateway).toMatchObject({ kind, address });
  });
});

it("neither nonsense nor other hosts' announcements change anything", async () => {
  const fake = await startFake();
  const { mapper, events } = await start(fake);
  const { announcements } = fake.optionsFor(HOST).ports;
  const goodbye = `NOTIFY * HTTP/1.1\r\nNTS: ssdp:byebye\r\nNT: ${IGD_TYPE}\r\nUSN: uuid:x::${IGD_TYPE}\r\n\r\n`;
  const restart = Buffer.from(`02800000${"00".repeat(20)}`, "hex");
  await sendFrom(OTHER_HOST, Buffer.from(goodbye), fake.ports.ssdp, SSDP_GROUP);
  await sendFrom(OTHER_HOST, restart, announcements!, "224.0.0.1");
  for (const noise of ["", "\0", "NOTIFY", "HTTP/1.1 200 OK\r\n\r\n", "\u0002\u0080"]) {
    await sendFrom(fake.settings.address, Buffer.from(noise, "latin1"), fake.ports.ssdp, SSDP_GROUP);
    await sendFrom(fake.settings.address, Buffer.from(noise, "latin1"), announcements!, "224.0.0.1");
  }
  await mapper.map(TCP);
  await mapper.check();
  expect(events()).toEqual(["found"]);
});

it("stops at once, also in the middle of a search", async () => {
  const fake = await startFake({ igd: 0, datagrams: "hang" });
  const mapper = new PortMapper(fake.optionsFor(HOST));
  const started = mapper.start();
  await mapper.stop();
  await started;
  expect(mapper.gateway).toBeUndefined();
});
