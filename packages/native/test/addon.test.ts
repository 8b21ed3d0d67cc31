import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { listsAes } from "../src/aead/cpu.ts";
import { hasFastAes, implementation, implementationDetail } from "../src/index.ts";
import { nativeUnavailable } from "./engines.ts";
import { skipAll } from "./skip-all.ts";

const PACKAGE = fileURLToPath(new URL("..", import.meta.url));
const ADDON = join(PACKAGE, "build/isthmus_native.node");

const switchedOff = process.env.ISTHMUS_NATIVE === "off" ? "switched off by ISTHMUS_NATIVE=off" : undefined;
const missing = ["make", "gcc"].find((tool) => spawnSync(tool, ["--version"]).status !== 0);
/** Why nothing can be built here, where it cannot. */
const cannotBuild = missing && `there is no ${missing}`;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "isthmus-native-"));
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** What a fresh process says that loads the package from `root`. */
function implementationIn(root: string, env: NodeJS.ProcessEnv = {}): { implementation: string; detail: string } {
  const program = `
    const { implementation, implementationDetail, createRecordSealer } = await import(${JSON.stringify(join(root, "src/index.ts"))});
    createRecordSealer("aes-256-gcm", new Uint8Array(32), new Uint8Array(12)).seal(Buffer.from("works"));
    console.log(JSON.stringify({ implementation, detail: implementationDetail }));`;
  const { ISTHMUS_NATIVE: _, ...inherited } = process.env;
  const child = spawnSync(process.execPath, ["--input-type=module", "--eval", program], {
    env: { ...inherited, ...env },
    encoding: "utf8",
    timeout: 15_000,
  });
  expect(child.stderr).toBe("");
  return JSON.parse(child.stdout);
}

/** A copy of the package's sources with nothing built. */
function copyPackage(): string {
  for (const part of ["src", "c", "Makefile", "package.json"]) {
    cpSync(join(PACKAGE, part), join(folder, part), { recursive: true });
  }
  return folder;
}

describe("which implementation is used", () => {
  test("the native one where this machine can build it (npm run build)", ({ skip }) => {
    const reason = cannotBuild ?? switchedOff;
    skip(reason !== undefined, reason);
    expect({ implementation, implementationDetail }).toEqual({
      implementation: "native",
      implementationDetail: "the add-on is loaded",
    });
  });

  test("node:crypto if switched off", () => {
    expect(implementationIn(PACKAGE, { ISTHMUS_NATIVE: "off" })).toEqual({
      implementation: "node:crypto",
      detail: "switched off by ISTHMUS_NATIVE=off",
    });
  });

  test("node:crypto if nothing was built", () => {
    expect(implementationIn(copyPackage())).toEqual({
      implementation: "node:crypto",
      detail: "the add-on was not built",
    });
  });

  test("node:crypto, and the reason in one line, if the add-on does not load", () => {
    const root = copyPackage();
    mkdirSync(join(root, "build"));
    writeFileSync(join(root, "build/isthmus_native.node"), "no shared object\n");
    const { implementation: used, detail } = implementationIn(root);
    expect(used).toBe("node:crypto");
    expect(detail).toMatch(/^the add-on does not load: .+$/);
  });
});

describe("the build", () => {
  test("without a compiler says what follows and succeeds", ({ skip }) => {
    skip(cannotBuild !== undefined, cannotBuild);
    const tools = join(folder, "bin");
    mkdirSync(tools);
    for (const tool of ["sh", "dirname", "rm", "make"]) symlinkSync(`/usr/bin/${tool}`, join(tools, tool));
    const { status, stdout } = spawnSync(join(tools, "sh"), [join(copyPackage(), "c/build.sh")], {
      env: { PATH: tools },
      encoding: "utf8",
    });
    expect({ status, stdout }).toEqual({
      status: 0,
      stdout: "@isthmus/native: there is no gcc here, so node:crypto will be used and there is no netlink\n",
    });
  });
});

describe("threads", () => {
  skipAll(nativeUnavailable);

  test("each loads the add-on for itself and may end with keys alive", async () => {
    const program = `
      const { aead } = require(${JSON.stringify(ADDON)});
      const { parentPort } = require("node:worker_threads");
      globalThis.keys = Array.from({ length: 100 }, (_, i) => aead.createKey(i & 1, new Uint8Array(32), new Uint8Array(12)));
      const out = Buffer.alloc(24);
      for (const key of globalThis.keys) aead.sealRecords(key, 0, Buffer.from("hi"), 23, out);
      parentPort.postMessage(aead.openRecords(globalThis.keys.at(-1), 0, out));`;
    const rounds = Array.from({ length: 4 }, async () => {
      const worker = new Worker(program, { eval: true });
      const [answer, status] = await Promise.all([
        new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject)),
        new Promise((resolve) => worker.once("exit", resolve)),
      ]);
      return { answer, status };
    });
    expect(await Promise.all(rounds)).toEqual(Array(4).fill({ answer: 0, status: 0 }));
  });
});

describe("fast AES", () => {
  test("is found in what x86 and arm64 list, as a whole word", () => {
    expect(listsAes("model name\t: x\nflags\t\t: fpu sse2 aes avx\n")).toBe(true);
    expect(listsAes("processor\t: 0\nFeatures\t: fp asimd evtstrm aes pmull sha1\n")).toBe(true);
    expect(listsAes("flags\t\t: fpu vaes sse2\nmodel name\t: aes\n")).toBe(false);
    expect(listsAes("")).toBe(false);
  });

  test("is told of this machine", () => {
    expect(hasFastAes()).toBeTypeOf("boolean");
  });
});
