import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createIdentity } from "@isthmus/service";
import { describe, expect, test } from "vitest";
import { DeviceKey } from "../src/index.ts";
import { temporaryFolder } from "./support/folder.ts";

describe("the device's key", () => {
  test("is made once, and is for this user's eyes alone", () => {
    const folder = join(temporaryFolder(), "state");
    const { identity } = new DeviceKey(folder);
    expect(new DeviceKey(folder).identity.publicKey).toBe(identity.publicKey);
    expect(statSync(join(folder, "device.pem")).mode & 0o777).toBe(0o600);
  });

  test("that is garbage is refused by name, and left as it is", () => {
    const folder = temporaryFolder();
    const path = join(folder, "device.pem");
    writeFileSync(path, "garbage");
    expect(() => new DeviceKey(folder)).toThrow(`cannot use the key file ${path}`);
    expect(readFileSync(path, "utf8")).toBe("garbage");
  });

  test("changes in two steps, and a crash between them loses neither key", () => {
    const folder = temporaryFolder();
    const key = new DeviceKey(folder);
    const old = key.identity.publicKey;
    const next = key.prepare().publicKey;
    expect([key.isChanging, key.identity.publicKey, key.prepare().publicKey]).toEqual([true, old, next]);
    const restarted = new DeviceKey(folder);
    expect([restarted.isChanging, restarted.identity.publicKey, restarted.prepare().publicKey]).toEqual([
      true,
      old,
      next,
    ]);
    restarted.adopt();
    expect([restarted.isChanging, restarted.identity.publicKey]).toEqual([false, next]);
    expect(new DeviceKey(folder).identity.publicKey).toBe(next);
  });

  test("stays when the change is given up", () => {
    const key = new DeviceKey(temporaryFolder());
    const old = key.identity.publicKey;
    const next = key.prepare().publicKey;
    key.abandon();
    key.abandon();
    expect([key.isChanging, key.identity.publicKey]).toEqual([false, old]);
    expect(key.prepare().publicKey).not.toBe(next);
  });

  test("stays when the next one cannot take its place on disk", () => {
    const folder = temporaryFolder();
    const key = new DeviceKey(folder);
    const old = key.identity.publicKey;
    key.prepare();
    rmSync(join(folder, "device.pem"));
    mkdirSync(join(folder, "device.pem"));
    expect(() => key.adopt()).toThrow();
    expect([key.isChanging, key.identity.publicKey]).toEqual([true, old]);
    rmSync(join(folder, "device.pem"), { recursive: true });
    writeFileSync(join(folder, "device.pem"), createIdentity().toPem());
    key.adopt();
    expect(key.identity.publicKey).not.toBe(old);
  });
});
