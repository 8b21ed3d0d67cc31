import { chmodSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { homedir, tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import {
  configFile,
  daemonSocket,
  ensureOwnFolder,
  isSharedFolder,
  requireOwnFolder,
  runtimeFolder,
  stateFolder,
} from "../src/index.ts";

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

function temporary(): string {
  folders.push(mkdtempSync(join(tmpdir(), "isthmus-paths-")));
  return folders.at(-1)!;
}

describe("folders", () => {
  it("are what systemd gave, else XDG's, else the defaults; an empty variable counts as unset", () => {
    expect(stateFolder("x", { STATE_DIRECTORY: "/var/lib/x", XDG_STATE_HOME: "/s" })).toBe("/var/lib/x");
    expect(stateFolder("x", { XDG_STATE_HOME: "/s" })).toBe("/s/x");
    expect(stateFolder("x", { XDG_STATE_HOME: "" })).toBe(join(homedir(), ".local/state/x"));
    expect(runtimeFolder("x", { RUNTIME_DIRECTORY: "/run/x" })).toBe("/run/x");
    expect(runtimeFolder("x", { XDG_RUNTIME_DIR: "/run/user/7" })).toBe("/run/user/7/x");
    expect(runtimeFolder("x", { XDG_RUNTIME_DIR: "" })).toBe(join(tmpdir(), `x-${userInfo().uid}`));
    expect(configFile("daemon", { XDG_CONFIG_HOME: "/c" })).toBe("/c/isthmus/daemon.toml");
    expect(daemonSocket({ ISTHMUS_SOCKET: "/s.sock" })).toBe("/s.sock");
    expect(daemonSocket({ XDG_RUNTIME_DIR: "/run/user/7" })).toBe("/run/user/7/isthmus/daemon.sock");
  });

  it("that everybody may write in, but to nobody else's, are told apart", () => {
    const folder = temporary();
    expect(isSharedFolder(join(folder, "absent"))).toBe(false);
    expect(isSharedFolder(folder)).toBe(false);
    chmodSync(folder, 0o777);
    expect(isSharedFolder(folder)).toBe(false);
    chmodSync(folder, 0o1777);
    expect(isSharedFolder(folder)).toBe(process.geteuid?.() === 0);
  });

  it("that hold a socket are made private", () => {
    const folder = join(temporary(), "new");
    ensureOwnFolder(folder);
    requireOwnFolder(folder);
    chmodSync(folder, 0o777);
    expect(() => ensureOwnFolder(folder)).toThrow(/others may write/);
  });

  it("are not taken through a link, nor where there is none", () => {
    const folder = temporary();
    symlinkSync(folder, join(folder, "link"));
    expect(() => requireOwnFolder(join(folder, "link"))).toThrow(/not a folder/);
    expect(() => requireOwnFolder(join(folder, "absent"))).toThrow(/ENOENT/);
  });
});
