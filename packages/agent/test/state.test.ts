import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createIdentity } from "@isthmus/service";
import { describe, expect, test } from "vitest";
import { StateFile } from "../src/state.ts";
import { temporaryFolder } from "./support/folder.ts";
import { service } from "./support/local-service.ts";

describe("the state file", () => {
  test("holds what was written, for this user's eyes alone", () => {
    const folder = join(temporaryFolder(), "new", "folder");
    const file = new StateFile(folder);
    expect(file.state).toEqual({ version: 1, services: [], subscriptions: [], pins: {} });
    const pin = { key: createIdentity().publicKey, since: "2026-01-01T00:00:00.000Z" };
    file.update((state) => {
      state.services.push(service("web"));
      state.pins["web@bob"] = pin;
    });
    expect(new StateFile(folder).state).toEqual(file.state);
    expect(new StateFile(folder).state.pins).toEqual({ "web@bob": pin });
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    expect(statSync(join(folder, "state.json")).mode & 0o777).toBe(0o600);
  });

  test("is not written where nothing has changed", () => {
    const folder = temporaryFolder();
    const file = new StateFile(folder);
    file.update((state) => {
      state.services = [service("web")];
    });
    const { ino } = statSync(join(folder, "state.json"));
    file.update((state) => {
      state.services = [service("web")];
    });
    expect(statSync(join(folder, "state.json")).ino).toBe(ino);
  });

  test.each([
    ["no JSON", "{", "is not JSON: move it away to start afresh"],
    ["empty", "", "is not JSON"],
    ["of another version", '{"version":2}', "version"],
    ["not of the form", '{"version":1,"services":[{}],"subscriptions":[],"pins":{}}', "services"],
  ])("that is %s is refused by name, and left as it is", (_what, content, complaint) => {
    const folder = temporaryFolder();
    const path = join(folder, "state.json");
    writeFileSync(path, content);
    expect(() => new StateFile(folder)).toThrow(path);
    expect(() => new StateFile(folder)).toThrow(complaint);
    expect(readFileSync(path, "utf8")).toBe(content);
  });

  test("that cannot be read is refused by name", () => {
    const folder = temporaryFolder();
    mkdirSync(join(folder, "state.json"));
    expect(() => new StateFile(folder)).toThrow(`${join(folder, "state.json")}: EISDIR`);
  });

  test("that cannot be written says so, and what is remembered stays as it was", () => {
    const folder = join(temporaryFolder(), "state");
    const file = new StateFile(folder);
    rmSync(folder, { recursive: true });
    const write = (): void =>
      file.update((state) => {
        state.services.push(service("web"));
      });
    expect(write).toThrow(expect.objectContaining({ code: "store-unavailable" }));
    expect(write).toThrow(`cannot write ${join(folder, "state.json")}: ENOENT`);
    expect(file.state.services).toEqual([]);
    mkdirSync(folder);
    write();
    expect(new StateFile(folder).state.services).toHaveLength(1);
  });
});
