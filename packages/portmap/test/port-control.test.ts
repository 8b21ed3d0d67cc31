import { NatPmpGateway, PcpGateway } from "@isthmus/portmap";
import type { FakeDatagramMood, FakeGateway } from "@isthmus/portmap/testing";
import { describe, expect, it } from "vitest";
import { HOST, OTHER_HOST, startFake, upnpAt } from "./gateway-at.ts";

const TCP = { protocol: "tcp", internalPort: 7000, lifetimeSeconds: 600 } as const;
const KEY = { protocol: "tcp", externalPort: 7000 } as const;
const SHORT = { timeoutMs: 150 };

const CLASSES = { pcp: PcpGateway, "nat-pmp": NatPmpGateway } as const;
const KINDS = ["pcp", "nat-pmp"] as const;

function at(kind: "pcp" | "nat-pmp", fake: FakeGateway, more: { localAddress?: string; nonceKey?: Buffer } = {}) {
  return new CLASSES[kind]({
    address: fake.settings.address,
    port: fake.ports.portControl,
    localAddress: HOST,
    ...more,
  });
}

describe.each(KINDS)("%s", (kind) => {
  it.each<[FakeDatagramMood, string]>([
    ["hang", "timeout"],
    ["mistaken", "timeout"],
    ["garbage", "malformed"],
  ])("a gateway of mood '%s': %s, and works again afterwards", async (datagrams, code) => {
    const fake = await startFake({ datagrams });
    const gateway = at(kind, fake);
    await expect(gateway.map(TCP, SHORT)).rejects.toMatchObject({ name: "PortmapError", code });
    fake.settings.datagrams = "sound";
    await expect(gateway.map(TCP)).resolves.toMatchObject({ externalPort: 7000 });
  });

  it.each<FakeDatagramMood>(["noisy", "lossy"])("what comes right after all is taken: %s", async (datagrams) => {
    const gateway = at(kind, await startFake({ datagrams }));
    await expect(gateway.map(TCP)).resolves.toMatchObject({ externalPort: 7000, internalAddress: HOST });
  });

  it("nobody there: unreachable", async () => {
    const fake = await startFake();
    await fake.stop();
    await expect(at(kind, fake).map(TCP)).rejects.toMatchObject({ code: "unreachable" });
  });

  it("a caller who gives up: aborted", async () => {
    const fake = await startFake({ datagrams: "hang" });
    const controller = new AbortController();
    const asked = at(kind, fake).map(TCP, { signal: controller.signal });
    controller.abort();
    await expect(asked).rejects.toMatchObject({ code: "aborted" });
  });

  it("a full gateway is full", async () => {
    const gateway = at(kind, await startFake({ room: 1 }));
    await gateway.map({ ...TCP, internalPort: 7001 });
    await expect(gateway.map(TCP)).rejects.toMatchObject({
      code: "full",
      ...(kind === "pcp" && { retryAfterMs: 30_000 }),
    });
  });

  it("a mapping without end is one of a long time: 0 would take it away", async () => {
    const fake = await startFake();
    const { lifetimeSeconds } = await at(kind, fake).map({ ...TCP, lifetimeSeconds: 0 });
    expect(lifetimeSeconds).toBeGreaterThan(3600);
    expect(fake.mappings.all).toHaveLength(1);
  });

  it("a wish for another outer port leaves the mapping that is there", async () => {
    const fake = await startFake();
    const gateway = at(kind, fake);
    await gateway.map(TCP);
    await expect(gateway.map({ ...TCP, externalPort: 7500 })).rejects.toMatchObject({ code: "other-port" });
    expect(fake.mappings.all).toEqual([expect.objectContaining({ externalPort: 7000, internalPort: 7000 })]);
  });

  it("shows a gateway that started anew by its next answer", async () => {
    const fake = await startFake();
    const signs: unknown[] = [];
    const gateway = new CLASSES[kind]({
      address: fake.settings.address,
      port: fake.ports.portControl,
      localAddress: HOST,
      onSign: (sign) => signs.push(sign),
    });
    await gateway.map(TCP);
    await gateway.map(TCP);
    expect(signs.filter((sign) => (sign as { sign: string }).sign === "restarted")).toEqual([]);
    await fake.restart({ silent: true, goodbye: false });
    await gateway.map(TCP);
    expect(signs).toContainEqual({ sign: "restarted", why: "epoch" });
  });
});

describe("PCP", () => {
  it.each(["honoured", "unknown", "ignored"] as const)(
    "a taken port where the wish to fail is %s",
    async (preferFailure) => {
      const fake = await startFake({ preferFailure });
      await upnpAt(fake, OTHER_HOST).map(TCP);
      const gateway = at("pcp", fake);
      for (let turn = 0; turn < 2; turn++) {
        await expect(gateway.map(TCP)).rejects.toMatchObject({ code: "other-port" });
        expect(fake.mappings.all).toEqual([expect.objectContaining({ internalAddress: OTHER_HOST })]);
      }
    },
  );

  it("only who knows the nonce takes a mapping away", async () => {
    const fake = await startFake();
    const nonceKey = Buffer.alloc(32, 1);
    await at("pcp", fake, { nonceKey }).map(TCP);
    await expect(at("pcp", fake).unmap(KEY)).rejects.toMatchObject({ code: "denied", gatewayCode: 2 });
    expect(fake.mappings.all).toHaveLength(1);
    await at("pcp", fake, { nonceKey }).unmap(KEY);
    expect(fake.mappings.all).toEqual([]);
  });

  it("of a gateway that speaks NAT-PMP alone: unsupported, at once", async () => {
    const fake = await startFake({ pcp: false });
    await expect(at("pcp", fake).probe()).rejects.toMatchObject({ code: "unsupported" });
    expect(fake.portControl.heard).toBe(1);
  });

  it("without NAT-PMP the outer address is learnt by a mapping that does not stay", async () => {
    const fake = await startFake({ natPmp: false });
    await expect(at("pcp", fake).externalAddress()).resolves.toBe(fake.settings.externalAddress);
    expect(fake.mappings.all).toEqual([]);
  });
});

it("NAT-PMP of a gateway that speaks PCP alone: malformed", async () => {
  const fake = await startFake({ natPmp: false });
  await expect(at("nat-pmp", fake).probe(SHORT)).rejects.toMatchObject({ code: "malformed" });
});
