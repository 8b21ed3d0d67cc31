import type { Channel } from "@isthmus/protocol";
import { describe, expect, onTestFinished, test } from "vitest";
import { ChannelListeners, type ListenAddress } from "../src/channel-listeners.ts";
import { client, endOf } from "./support/programs.ts";

const TCP: Channel = { id: "tcp", proto: "tcp", opener: "subscriber" };
const UDP: Channel = { id: "udp", proto: "udp", opener: "subscriber" };
const ADMIN: Channel = { id: "admin", proto: "tcp", opener: "subscriber" };

function create(remembered: ListenAddress[] = [], main?: { host: string; port: number }) {
  const connections: string[] = [];
  const listeners = new ChannelListeners(
    {
      connection: (socket, channel) => {
        connections.push(channel);
        socket.on("error", () => undefined).end();
      },
      client: () => undefined,
    },
    remembered,
    main,
  );
  onTestFinished(() => listeners.close());
  const at = (id: string): string => listeners.addresses.find(({ channel }) => channel === id)!.address;
  return { listeners, connections, at };
}

/** Ports that were free a moment ago. */
async function freeAddresses(count: number): Promise<string[]> {
  const { listeners } = create();
  const channels = Array.from({ length: count }, (_, index) => ({ ...TCP, id: `c${index}` }));
  await listeners.listen(channels);
  const addresses = listeners.addresses.map(({ address }) => address);
  listeners.close();
  return addresses;
}

describe("the listeners of a subscription", () => {
  test("share a port between the first TCP and the first UDP channel; further channels have their own", async () => {
    const { listeners, at, connections } = create();
    await listeners.listen([TCP, UDP, ADMIN]);
    expect(at("udp")).toBe(at("tcp"));
    expect(at("admin")).not.toBe(at("tcp"));
    expect(await endOf(client(at("admin")))).toBe("end");
    expect(await endOf(client(at("tcp")))).toBe("end");
    expect(connections).toEqual(["admin", "tcp"]);
  });

  test("are where the user wants the main one, the others at its host", async () => {
    const [address] = await freeAddresses(1);
    const port = Number(address!.split(":")[1]);
    const { listeners, at } = create([], { host: "127.0.0.1", port });
    await listeners.listen([TCP, ADMIN]);
    expect(at("tcp")).toBe(address);
    expect(at("admin")).toMatch(/^127\.0\.0\.1:(?!0$)/);
  });

  test("follow the service: what is no channel any more is closed, what is new is opened, the rest is not touched", async () => {
    const { listeners, at } = create();
    await listeners.listen([TCP, UDP]);
    const before = at("tcp");
    await listeners.listen([TCP, ADMIN]);
    expect(listeners.addresses.map(({ channel }) => channel)).toEqual(["tcp", "admin"]);
    expect(at("tcp")).toBe(before);
    const admin = at("admin");
    await listeners.listen([TCP]);
    expect(await endOf(client(admin))).toContain("ECONNREFUSED");
    expect(await endOf(client(before))).toBe("end");
  });

  test("are where they were before a restart, also when one of them was added later", async () => {
    const [a, b] = (await freeAddresses(2)) as [string, string];
    const shared = create([
      { channel: "tcp", proto: "tcp", address: a },
      { channel: "udp", proto: "udp", address: a },
    ]);
    await shared.listeners.listen([TCP, UDP]);
    expect([shared.at("tcp"), shared.at("udp")]).toEqual([a, a]);
    shared.listeners.close();
    const apart = create([
      { channel: "tcp", proto: "tcp", address: a },
      { channel: "udp", proto: "udp", address: b },
    ]);
    await apart.listeners.listen([TCP, UDP]);
    expect([apart.at("tcp"), apart.at("udp")]).toEqual([a, b]);
  });

  test("are where they are to be again, before they ever were", () => {
    const remembered: ListenAddress[] = [{ channel: "tcp", proto: "tcp", address: "127.0.0.1:4711" }];
    expect(create(remembered).listeners.addresses).toEqual(remembered);
  });

  test("that are asked for twice at once are opened once", async () => {
    const [address] = (await freeAddresses(1)) as [string];
    const { listeners, at } = create([{ channel: "tcp", proto: "tcp", address }]);
    await Promise.all([listeners.listen([TCP]), listeners.listen([TCP, ADMIN]), listeners.listen([TCP, ADMIN])]);
    expect(at("tcp")).toBe(address);
    expect(listeners.addresses).toHaveLength(2);
  });

  test("can be had once a port that was taken is free", async () => {
    const other = create();
    await other.listeners.listen([TCP]);
    const { listeners, at } = create([{ channel: "tcp", proto: "tcp", address: other.at("tcp") }]);
    await expect(listeners.listen([TCP])).rejects.toMatchObject({ code: "port-taken" });
    const address = other.at("tcp");
    other.listeners.close();
    await listeners.listen([TCP]);
    expect(at("tcp")).toBe(address);
  });

  test("that are closed while they are being opened stay closed", async () => {
    const { listeners } = create();
    const listening = listeners.listen([TCP, UDP, ADMIN]);
    const later = listeners.listen([TCP]);
    listeners.close();
    await expect(listening).rejects.toMatchObject({ code: "cancelled" });
    await expect(later).rejects.toMatchObject({ code: "cancelled" });
    await expect(listeners.listen([TCP])).rejects.toMatchObject({ code: "cancelled" });
    expect(listeners.addresses).toEqual([]);
  });
});
