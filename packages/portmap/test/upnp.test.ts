import type { FakeWebMood } from "@isthmus/portmap/testing";
import { describe, expect, it } from "vitest";
import { OTHER_HOST, startFake, upnpAt } from "./gateway-at.ts";

const TCP = { protocol: "tcp", internalPort: 7000, lifetimeSeconds: 600 } as const;
const KEY = { protocol: "tcp", externalPort: 7000 } as const;
/** For what never answers. */
const SHORT = { timeoutMs: 150 };

const MOODS: [FakeWebMood, string][] = [
  ["hang", "timeout"],
  ["drip", "timeout"],
  ["noise", "malformed"],
  ["garbage", "malformed"],
  ["flood", "malformed"],
  ["deep", "malformed"],
  ["entities", "malformed"],
  ["unnumbered", "malformed"],
  ["cut", "unreachable"],
];

describe("a gateway whose answers are of no use", () => {
  it.each([...MOODS, ["redirect", "unsupported"] as const])(
    "%s: map is %s, and works again afterwards",
    async (web, code) => {
      const fake = await startFake();
      const gateway = upnpAt(fake);
      await gateway.probe();
      fake.settings.web = web;
      await expect(gateway.map(TCP, SHORT)).rejects.toMatchObject({ name: "PortmapError", code });
      fake.settings.web = "sound";
      await expect(gateway.map(TCP)).resolves.toMatchObject({ externalPort: 7000 });
    },
  );

  it.each([
    ...MOODS.filter(([mood]) => mood !== "deep"),
    ["deep", "malformed"] as const,
    ["redirect", "malformed"] as const,
  ])("%s instead of a description: %s, and works again afterwards", async (web, code) => {
    const fake = await startFake({ web });
    const gateway = upnpAt(fake);
    await expect(gateway.map(TCP, SHORT)).rejects.toMatchObject({ code });
    fake.settings.web = "sound";
    const again = upnpAt(fake);
    await expect(again.map(TCP)).resolves.toMatchObject({ externalPort: 7000 });
  });

  it("nobody there: unreachable", async () => {
    const fake = await startFake();
    const gateway = upnpAt(fake);
    await gateway.probe();
    await fake.stop();
    await expect(gateway.map(TCP)).rejects.toMatchObject({ code: "unreachable" });
  });

  it("a list without end is malformed", async () => {
    const fake = await startFake({ listsForever: true });
    const gateway = upnpAt(fake);
    await gateway.map(TCP);
    await expect(gateway.list()).rejects.toMatchObject({ code: "malformed" });
  });

  it.each([
    ["0.0.0.0", "failed"],
    ["", "failed"],
    ["nowhere", "malformed"],
    ["1.2.3.4.5", "malformed"],
  ])("outer address '%s': %s", async (externalAddress, code) => {
    const gateway = upnpAt(await startFake({ externalAddress }));
    await expect(gateway.externalAddress()).rejects.toMatchObject({ code });
  });
});

describe("a caller who gives up", () => {
  it("ends the call, and no other", async () => {
    const fake = await startFake({ web: "hang" });
    const gateway = upnpAt(fake);
    const controller = new AbortController();
    const mine = gateway.map(TCP, { signal: controller.signal });
    const others = gateway.map({ ...TCP, protocol: "udp" });
    others.catch(() => undefined);
    controller.abort();
    await expect(mine).rejects.toMatchObject({ code: "aborted" });
    // The description that hangs is for both; a sound one lets the other go on.
    fake.settings.web = "sound";
    await expect(upnpAt(fake).map(TCP, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: "aborted" });
    await fake.stop();
    await expect(others).rejects.toMatchObject({ code: "unreachable" });
  });
});

describe("a gateway with limits of its own", () => {
  it("that knows permanent leases alone is asked again with 0, and from then on at once", async () => {
    const fake = await startFake({ igd: 1, permanentOnly: true });
    const gateway = upnpAt(fake);
    await expect(gateway.map(TCP)).resolves.toMatchObject({ externalPort: 7000, lifetimeSeconds: 0 });
    expect(fake.web.asked.get("AddPortMapping")).toBe(2);
    await expect(gateway.map({ ...TCP, internalPort: 7001 })).resolves.toMatchObject({ lifetimeSeconds: 0 });
    expect(fake.web.asked.get("AddPortMapping")).toBe(3);
    expect(fake.mappings.all.map(({ expiresAtMs }) => expiresAtMs)).toEqual([Infinity, Infinity]);
  });

  it.each([
    [728, "full"],
    [501, "failed"],
  ])("of 32 entries answers the 33rd with %d: %s, and takes it when there is room", async (fullFault, code) => {
    const gateway = upnpAt(await startFake({ room: 32, fullFault }));
    const at = (internalPort: number) => ({ ...TCP, internalPort });
    await Promise.all(Array.from({ length: 32 }, (_, index) => gateway.map(at(8000 + index))));
    await expect(gateway.map(at(8032))).rejects.toMatchObject({ code, gatewayCode: fullFault });
    await expect(gateway.map(at(8031))).resolves.toMatchObject({ externalPort: 8031 });
    await gateway.unmap({ protocol: "tcp", externalPort: 8000 });
    await expect(gateway.map(at(8032))).resolves.toMatchObject({ externalPort: 8032 });
  });

  it.each([
    [402, "unsupported"],
    [603, "full"],
    [606, "denied"],
    [724, "unsupported"],
    [729, "denied"],
    [732, "unsupported"],
    [899, "failed"],
  ])("fault %d is %s, with its number", async (number, code) => {
    const gateway = upnpAt(await startFake({ faults: { AddPortMapping: number } }));
    await expect(gateway.map(TCP)).rejects.toMatchObject({ code, gatewayCode: number });
  });
});

describe("718", () => {
  it("without an entry is a refusal, no conflict", async () => {
    const gateway = upnpAt(await startFake({ liesAboutConflicts: true }));
    await expect(gateway.map(TCP)).rejects.toMatchObject({ code: "denied", gatewayCode: 718 });
  });

  it("where nobody can look is a refusal, no conflict", async () => {
    const fake = await startFake();
    await upnpAt(fake, OTHER_HOST).map(TCP);
    fake.settings.cannotLookUp = true;
    await expect(upnpAt(fake).map(TCP)).rejects.toMatchObject({ code: "denied", gatewayCode: 718 });
  });

  it("for an entry of another address of this host is no conflict", async () => {
    const fake = await startFake();
    await upnpAt(fake, OTHER_HOST).map(TCP);
    const { UpnpGateway } = await import("@isthmus/portmap");
    const gateway = new UpnpGateway({
      location: new URL(fake.location),
      localAddress: "127.0.0.2",
      ownAddresses: () => ["127.0.0.2", OTHER_HOST],
    });
    await expect(gateway.map(TCP)).rejects.toMatchObject({ code: "denied" });
  });

  it("to one's own renewal: the entry stays while it lasts, and is made anew when it does not", async () => {
    const fake = await startFake({ refusesRenewal: true });
    const gateway = upnpAt(fake);
    await gateway.map(TCP);
    await expect(gateway.map(TCP)).resolves.toMatchObject({ externalPort: 7000, lifetimeSeconds: 600 });
    expect(fake.web.asked.get("DeletePortMapping")).toBeUndefined();
    await gateway.map({ ...TCP, lifetimeSeconds: 3600 });
    expect(fake.web.asked.get("DeletePortMapping")).toBe(1);
    expect((await gateway.lookUp(KEY))!.lifetimeSeconds).toBeGreaterThan(3000);
    await gateway.map({ ...TCP, externalPort: 7000, internalPort: 7001 });
    expect(await gateway.lookUp(KEY)).toMatchObject({ internalPort: 7001 });
  });

  it("that is followed by silence is a time-out", async () => {
    const fake = await startFake();
    await upnpAt(fake, OTHER_HOST).map(TCP);
    const gateway = upnpAt(fake);
    await gateway.probe();
    fake.settings.delayMs = 200;
    await expect(gateway.map(TCP, { timeoutMs: 300 })).rejects.toMatchObject({ code: "timeout" });
  });
});

describe("another host's entry", () => {
  it("is not taken away even where the gateway would", async () => {
    const fake = await startFake({ secureMode: false });
    await upnpAt(fake, OTHER_HOST).map(TCP);
    await expect(upnpAt(fake).unmap(KEY)).rejects.toMatchObject({ code: "conflict", holder: OTHER_HOST });
    expect(fake.web.asked.get("DeletePortMapping")).toBeUndefined();
    expect(fake.mappings.all).toHaveLength(1);
  });

  it("is not risked where nobody can look: only what was made here goes", async () => {
    const fake = await startFake({ cannotLookUp: true, secureMode: false });
    const [mine, theirs] = [upnpAt(fake), upnpAt(fake, OTHER_HOST)];
    await theirs.map(TCP);
    await mine.map({ ...TCP, internalPort: 7001 });
    await expect(mine.unmap(KEY)).rejects.toMatchObject({ code: "unsupported" });
    await mine.unmap({ protocol: "tcp", externalPort: 7001 });
    expect(fake.mappings.all).toEqual([expect.objectContaining({ externalPort: 7000, internalAddress: OTHER_HOST })]);
  });
});

it("an entry that is gone already is no error, whatever the gateway says", async () => {
  const gateway = upnpAt(await startFake({ absentFault: 714 }));
  await expect(gateway.unmap(KEY)).resolves.toBeUndefined();
});

it("a gateway that claims to have mapped and has not is found out by looking", async () => {
  const gateway = upnpAt(await startFake({ forgetsAtOnce: true }));
  await gateway.map(TCP);
  expect(await gateway.lookUp(KEY)).toBeUndefined();
});

it("of several connections the one that is up is used", async () => {
  const gateway = upnpAt(await startFake({ hasSecondService: true }));
  await expect(gateway.map(TCP)).resolves.toMatchObject({ externalPort: 7000 });
  expect(gateway.name).toBe("Fake & Sons");
});

it("without AddAnyPortMapping another port is found by trying", async () => {
  const fake = await startFake({ igd: 1 });
  await upnpAt(fake, OTHER_HOST).map(TCP);
  const { externalPort } = await upnpAt(fake).map({ ...TCP, anyPort: true });
  expect(externalPort).toBeGreaterThanOrEqual(1024);
  expect(externalPort).not.toBe(7000);
  expect(fake.web.asked.get("AddAnyPortMapping")).toBeUndefined();
});

it("a description is fetched once, however many ask", async () => {
  const fake = await startFake();
  const gateway = upnpAt(fake);
  await Promise.all(Array.from({ length: 40 }, (_, index) => gateway.map({ ...TCP, internalPort: 9000 + index })));
  await gateway.list();
  expect(fake.web.asked.get("description")).toBe(1);
  expect(fake.mappings.all).toHaveLength(40);
});

it("what was mapped a moment ago is taken away without a look, and with one after a restart of the gateway", async () => {
  const fake = await startFake({ secureMode: false });
  const gateway = upnpAt(fake);
  await gateway.map(TCP);
  await gateway.unmap(KEY);
  expect(fake.web.asked.get("GetSpecificPortMappingEntry")).toBeUndefined();
  await gateway.map(TCP);
  gateway.forget();
  fake.mappings.clear();
  await upnpAt(fake, OTHER_HOST).map(TCP);
  await expect(gateway.unmap(KEY)).rejects.toMatchObject({ code: "conflict", holder: OTHER_HOST });
  expect(fake.mappings.all).toHaveLength(1);
});

it("a call that is withdrawn while others are made has no effect; one that was made goes on", async () => {
  const fake = await startFake({ delayMs: 50 });
  const gateway = upnpAt(fake);
  await gateway.probe();
  const withdrawal = new AbortController();
  const { signal: withdraw } = withdrawal;
  const made = Array.from({ length: 4 }, (_, index) =>
    gateway.map({ ...TCP, internalPort: 9000 + index }, { withdraw }),
  );
  const waiting = gateway.map(TCP, { withdraw });
  // Once all are in line.
  await new Promise((resolve) => setImmediate(resolve));
  withdrawal.abort();
  await expect(waiting).rejects.toMatchObject({ code: "aborted", untouched: true });
  await Promise.all(made);
  expect(fake.mappings.all.map(({ externalPort }) => externalPort).sort()).toEqual([9000, 9001, 9002, 9003]);
});
