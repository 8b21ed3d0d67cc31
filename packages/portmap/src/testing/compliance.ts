import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { GATEWAY_KINDS, type GatewayKind, type Mapping } from "../gateway.ts";
import { PortMapper, type PortMapperOptions } from "../port-mapper.ts";
import { EventLog } from "./event-log.ts";

/** A running gateway, and a network of two hosts behind it. */
export interface PortmapPlace {
  /** Own addresses of this process that the gateway takes for two hosts. */
  hosts: readonly [string, string];
  gateway: string;
  externalAddress: string;
  /** A TCP port that the gateway keeps for itself. */
  ownPort: number;
  /** What gets at the gateway from that address. */
  optionsFor: (host: string) => PortMapperOptions;
  /** How long it must have run for a restart to show in its clock: RFC 6886 forgives two seconds. */
  forgivenMs: number;
  /** Stops the gateway in good order. */
  stop(): Promise<void>;
  /** Starts it again, without the mappings it had. */
  startAgain(): Promise<void>;
  /** Takes everything away. */
  remove(): Promise<void>;
}

/** Seconds; the gateway has to grant so short a lease, and so much may pass until it is really over. */
const SHORT_LEASE_S = 2;
const EXPIRY_MS = 12_000;
const LEASE_S = 600;
const MANY = 20;

/**
 * What every gateway must do for each of these protocols, UPnP among them, as tests over real sockets. `start` is called
 * once; each test has ports of its own, and the last ones stop the gateway.
 */
export function describePortmap(
  name: string,
  start: () => Promise<PortmapPlace>,
  kinds: readonly GatewayKind[] = GATEWAY_KINDS,
): void {
  describe(`${name}: port mappings`, () => {
    const hasPortControl = kinds.includes("pcp") && kinds.includes("nat-pmp");
    let place: PortmapPlace;
    let watcher: PortMapper;
    let nextPort = 20_000;
    const mappers: PortMapper[] = [];
    const logs = new Map<PortMapper, EventLog>();

    beforeAll(async () => {
      place = await start();
      watcher = new PortMapper({ ...place.optionsFor(place.hosts[0]), kinds: ["upnp"] });
      await watcher.start();
    });
    afterEach(async () => {
      await Promise.all(mappers.splice(0).map((mapper) => mapper.stop()));
    });
    afterAll(async () => {
      await watcher?.stop();
      await place?.remove();
    });

    async function mapper(kind?: GatewayKind, host: 0 | 1 = 0): Promise<PortMapper> {
      const log = new EventLog();
      const made = new PortMapper({
        ...place.optionsFor(place.hosts[host]),
        ...(kind && { kinds: [kind] }),
        onEvent: log.add,
      });
      mappers.push(made);
      logs.set(made, log);
      await made.start();
      return made;
    }

    /** The gateway's own view of a port, by UPnP. */
    function entry(protocol: "tcp" | "udp", externalPort: number): Promise<Mapping | undefined> {
      return watcher.lookUp({ protocol, externalPort });
    }

    function port(): number {
      return nextPort++;
    }

    it("is found by the protocol that tells most, where it speaks several", async () => {
      const found = await mapper();
      expect(found.gateway).toEqual({
        kind: "upnp",
        address: place.gateway,
        capabilities: { lookUp: true, list: true },
      });
      expect(logs.get(found)!.all).toEqual([{ event: "found", kind: "upnp", address: place.gateway }]);
      expect(found.memory).toEqual({ gateway: place.gateway, location: expect.stringContaining(place.gateway) });
    });

    describe.each(kinds)("%s", (kind) => {
      it("maps TCP and UDP apart, renews, and takes away", async () => {
        const wanted = port();
        const mine = await mapper(kind);
        const tcp = {
          protocol: "tcp",
          internalPort: wanted,
          lifetimeSeconds: LEASE_S,
          description: "compliance",
        } as const;
        const expected = { internalAddress: place.hosts[0], internalPort: wanted, externalPort: wanted };
        expect(await mine.map(tcp)).toMatchObject({ ...expected, protocol: "tcp", lifetimeSeconds: LEASE_S });
        expect(await entry("tcp", wanted)).toMatchObject({ ...expected, protocol: "tcp", enabled: true });
        expect(await entry("udp", wanted)).toBeUndefined();

        expect(await mine.map({ ...tcp, protocol: "udp" })).toMatchObject({ ...expected, protocol: "udp" });
        expect(await mine.map({ ...tcp, lifetimeSeconds: 2 * LEASE_S })).toMatchObject({
          lifetimeSeconds: 2 * LEASE_S,
        });
        expect((await entry("tcp", wanted))!.lifetimeSeconds).toBeGreaterThan(LEASE_S);

        await mine.unmap({ protocol: "tcp", externalPort: wanted });
        expect(await entry("tcp", wanted)).toBeUndefined();
        expect(await entry("udp", wanted)).toMatchObject(expected);
        await mine.unmap({ protocol: "udp", externalPort: wanted });
        expect(await entry("udp", wanted)).toBeUndefined();
        await mine.unmap({ protocol: "udp", externalPort: wanted });
      });

      it("maps to another inner port", async () => {
        const [inside, outside] = [port(), port()];
        const mine = await mapper(kind);
        await mine.map({ protocol: "tcp", internalPort: inside, externalPort: outside, lifetimeSeconds: LEASE_S });
        expect(await entry("tcp", outside)).toMatchObject({ internalPort: inside, internalAddress: place.hosts[0] });
        await mine.unmap({ protocol: "tcp", externalPort: outside, internalPort: inside });
        expect(await entry("tcp", outside)).toBeUndefined();
      });

      it("leaves another host's port to it, and nothing of its own behind", async () => {
        const wanted = port();
        const theirs = await mapper("upnp", 1);
        await theirs.map({ protocol: "tcp", internalPort: wanted, lifetimeSeconds: LEASE_S });
        const mine = await mapper(kind);
        const refused = mine.map({ protocol: "tcp", internalPort: wanted, lifetimeSeconds: LEASE_S });
        await expect(refused).rejects.toMatchObject(
          kind === "upnp" ? { code: "conflict", holder: place.hosts[1], gatewayCode: 718 } : { code: "other-port" },
        );
        await mine
          .unmap({ protocol: "tcp", externalPort: wanted })
          .catch((error) => expect(error).toMatchObject({ code: "conflict" }));
        const left = (await theirs.list()).filter(({ internalPort }) => internalPort === wanted);
        expect(left).toEqual([expect.objectContaining({ internalAddress: place.hosts[1], externalPort: wanted })]);
        await theirs.unmap({ protocol: "tcp", externalPort: wanted });
      });

      it("gives another port where any will do", async () => {
        const wanted = port();
        const theirs = await mapper("upnp", 1);
        await theirs.map({ protocol: "udp", internalPort: wanted, lifetimeSeconds: LEASE_S });
        const mine = await mapper(kind);
        const given = await mine.map({
          protocol: "udp",
          internalPort: wanted,
          anyPort: true,
          lifetimeSeconds: LEASE_S,
        });
        expect(given.externalPort).not.toBe(wanted);
        expect(await entry("udp", given.externalPort)).toMatchObject({
          internalAddress: place.hosts[0],
          internalPort: wanted,
        });
        await mine.unmap({ protocol: "udp", externalPort: given.externalPort, internalPort: wanted });
        expect(await entry("udp", given.externalPort)).toBeUndefined();
        await theirs.unmap({ protocol: "udp", externalPort: wanted });
      });

      it("tells the outer address", async () => {
        expect(await (await mapper(kind)).externalAddress()).toBe(place.externalAddress);
      });

      it("answers many at a time", async () => {
        const mine = await mapper(kind);
        const ports = Array.from({ length: MANY }, port);
        const keys = ports.map((externalPort) => ({ protocol: "udp", externalPort }) as const);
        await Promise.all(
          ports.map((internalPort) => mine.map({ protocol: "udp", internalPort, lifetimeSeconds: LEASE_S })),
        );
        const listed = async () =>
          (await watcher.list())
            .map(({ externalPort }) => externalPort)
            .filter((one) => ports.includes(one))
            .sort((a, b) => a - b);
        expect(await listed()).toEqual(ports);
        await Promise.all(keys.map((key) => mine.unmap(key)));
        expect(await listed()).toEqual([]);
      });

      it("refuses nonsense by itself", async () => {
        const mine = await mapper(kind);
        const request = { protocol: "tcp", internalPort: port(), lifetimeSeconds: LEASE_S } as const;
        for (const wrong of [
          { internalPort: 0 },
          { internalPort: 65_536 },
          { externalPort: 0 },
          { internalPort: 1.5 },
          { lifetimeSeconds: -1 },
          { lifetimeSeconds: Number.NaN },
          { protocol: "sctp" as "tcp" },
        ]) {
          await expect(mine.map({ ...request, ...wrong })).rejects.toMatchObject({ code: "invalid" });
        }
        await expect(mine.unmap({ protocol: "tcp", externalPort: 0 })).rejects.toMatchObject({ code: "invalid" });
      });
    });

    describe("upnp alone", () => {
      it("carries descriptions of any kind", async () => {
        const mine = await mapper("upnp");
        const wanted = port();
        const description = `<b>&amp; "it's" ]]> 100 % $(x)`;
        await mine.map({ protocol: "tcp", internalPort: wanted, lifetimeSeconds: LEASE_S, description });
        expect(await mine.lookUp({ protocol: "tcp", externalPort: wanted })).toMatchObject({ description });
        const listed = await mine.list();
        expect(listed.find(({ externalPort }) => externalPort === wanted)).toMatchObject({ description });
        await mine.unmap({ protocol: "tcp", externalPort: wanted });
      });

      it("takes a mapping for somebody else as denied, although the gateway may call it a conflict", async () => {
        const mine = await mapper("upnp");
        const request = { protocol: "tcp", internalAddress: place.hosts[1], lifetimeSeconds: LEASE_S } as const;
        const [free, own] = [port(), port()];
        await expect(mine.map({ ...request, internalPort: free })).rejects.toMatchObject({ code: "denied" });
        await mine.map({ protocol: "tcp", internalPort: own, lifetimeSeconds: LEASE_S });
        await expect(mine.map({ ...request, internalPort: own })).rejects.toMatchObject({
          code: "denied",
          gatewayCode: 718,
        });
        await mine.unmap({ protocol: "tcp", externalPort: own });
      });

      it("is denied privileged ports and the gateway's own", async () => {
        const mine = await mapper("upnp");
        const request = { protocol: "tcp", lifetimeSeconds: LEASE_S } as const;
        await expect(mine.map({ ...request, internalPort: 80 })).rejects.toMatchObject({
          code: "denied",
          gatewayCode: 606,
        });
        await expect(mine.map({ ...request, internalPort: place.ownPort })).rejects.toMatchObject({
          code: "denied",
          gatewayCode: 729,
        });
      });

      it("maps without an end", async () => {
        const mine = await mapper("upnp");
        const wanted = port();
        const { lifetimeSeconds } = await mine.map({ protocol: "udp", internalPort: wanted, lifetimeSeconds: 0 });
        expect([0, 604_800]).toContain(lifetimeSeconds);
        await mine.unmap({ protocol: "udp", externalPort: wanted });
      });
    });

    if (hasPortControl) {
      it("PCP asks for no privileged port: gateways have died of it", async () => {
        const mine = await mapper("pcp");
        for (const ports of [{ internalPort: 80 }, { internalPort: 8080, externalPort: 80 }]) {
          const asked = mine.map({ protocol: "tcp", ...ports, lifetimeSeconds: LEASE_S });
          await expect(asked).rejects.toMatchObject({ code: "unsupported" });
        }
      });
    }

    if (hasPortControl) {
      it("PCP and NAT-PMP cannot look", async () => {
        for (const kind of ["pcp", "nat-pmp"] as const) {
          const mine = await mapper(kind);
          expect(mine.gateway!.capabilities).toEqual({ lookUp: false, list: false });
          await expect(mine.list()).rejects.toMatchObject({ code: "unsupported" });
          await expect(mine.lookUp({ protocol: "tcp", externalPort: 1 })).rejects.toMatchObject({
            code: "unsupported",
          });
        }
      });
    }

    it("a lease ends", async () => {
      const ports = await Promise.all(
        kinds.map(async (kind) => {
          const internalPort = port();
          await (await mapper(kind)).map({ protocol: "tcp", internalPort, lifetimeSeconds: SHORT_LEASE_S });
          return internalPort;
        }),
      );
      const left = () => Promise.all(ports.map((externalPort) => entry("tcp", externalPort)));
      expect((await left()).map((one) => one?.externalPort)).toEqual(ports);
      const deadline = performance.now() + EXPIRY_MS;
      while ((await left()).some((one) => one !== undefined)) {
        expect(performance.now()).toBeLessThan(deadline);
        await sleep(100);
      }
    });

    it("a gateway that stops is gone, and found again when it is back", async () => {
      const wanted = port();
      const mine = await mapper();
      const log = logs.get(mine)!;
      const request = { protocol: "tcp", internalPort: wanted, lifetimeSeconds: LEASE_S } as const;
      await mine.map(request);
      await place.stop();
      await log.next({ event: "gone", why: "goodbye" });
      expect(mine.gateway).toBeUndefined();
      await expect(mine.map(request)).rejects.toMatchObject({ code: "unreachable" });

      await place.startAgain();
      await log.next({ event: "found", kind: "upnp" });
      expect(await mine.lookUp({ protocol: "tcp", externalPort: wanted })).toBeUndefined();
      expect(await mine.map(request)).toMatchObject({ externalPort: wanted });
      await mine.unmap({ protocol: "tcp", externalPort: wanted });
    });

    if (hasPortControl) {
      it("PCP and NAT-PMP show a restart by their announcements", async () => {
        const mine = await Promise.all([mapper("pcp"), mapper("nat-pmp")]);
        await sleep(place.forgivenMs);
        await Promise.all(mine.map((one) => one.check()));
        await place.stop();
        await place.startAgain();
        await Promise.all(mine.map((one) => logs.get(one)!.next({ event: "restarted", why: "epoch" })));
      });
    }
  });
}
