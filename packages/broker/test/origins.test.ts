import { networkInterfaces } from "node:os";
import { describe, expect, test } from "vitest";
import { OwnOrigins } from "../src/origins.ts";

describe("the addresses of an ISB", () => {
  test("are those of this host with its port and scheme", () => {
    const origins = new OwnOrigins({ given: [], local: [], secure: true, host: "::", port: 7443 });
    for (const host of ["127.0.0.1", "localhost"]) expect(origins.includes(`wss://${host}:7443`)).toBe(true);
    for (const { address, family } of Object.values(networkInterfaces()).flat() as {
      address: string;
      family: string;
    }[]) {
      if (family === "IPv4") expect(origins.includes(`wss://${address}:7443`)).toBe(true);
    }
    for (const origin of ["ws://127.0.0.1:7443", "wss://127.0.0.1:7444", "wss://isb.example:7443", ""]) {
      expect(origins.includes(origin)).toBe(false);
    }
  });

  test("are exactly those that were given, and local ones that stand in no invite", () => {
    const given = ["wss://isb.example:443", "wss://[2001:db8::1]:443"];
    const local = ["wss://[::1]:7443"];
    const origins = new OwnOrigins({ given, local, secure: true, host: "::", port: 7443 });
    expect(origins.includes("wss://isb.example:443")).toBe(true);
    expect(origins.includes("wss://[::1]:7443")).toBe(true);
    expect(origins.includes("wss://127.0.0.1:7443")).toBe(false);
    expect(origins.addresses()).toEqual(["isb.example:443", "[2001:db8::1]:443"]);
  });

  test("are no others than the one at which it listens", () => {
    const origins = new OwnOrigins({ given: [], local: [], secure: false, host: "127.0.0.1", port: 7443 });
    expect(origins.addresses()).toEqual(["127.0.0.1:7443"]);
    expect(origins.includes("ws://localhost:7443")).toBe(true);
    expect(origins.includes("ws://[::1]:7443")).toBe(false);
    const outside = new OwnOrigins({ given: [], local: [], secure: true, host: "192.0.2.1", port: 7443 });
    expect(outside.includes("wss://192.0.2.1:7443")).toBe(true);
    expect(outside.includes("wss://localhost:7443")).toBe(false);
  });

  test("in invites are never more than eight, and loopback only where there is nothing else", () => {
    const given = Array.from({ length: 20 }, (_, n) => `wss://isb${n}.example:443`);
    expect(new OwnOrigins({ given, local: [], secure: true, host: "::", port: 1 }).addresses()).toHaveLength(8);
    const addresses = new OwnOrigins({ given: [], local: [], secure: true, host: "::", port: 7443 }).addresses();
    expect(addresses.length).toBeGreaterThan(0);
    const isLoopback = (address: string) => address.startsWith("127.") || address.startsWith("[::1]");
    expect([0, addresses.length]).toContain(addresses.filter(isLoopback).length);
  });
});
