import { generateKeyPairSync } from "node:crypto";
import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createIdentity, identityFromPem, loadOrCreateIdentity, verifySignature } from "@isthmus/service";
import { describe, expect, it } from "vitest";
import { emptyFolder } from "./folder.ts";

const modeOf = (path: string): number => statSync(path).mode & 0o777;

describe("a key", () => {
  it("signs what its public half verifies, and nothing else", () => {
    const identity = createIdentity();
    const message = Buffer.from("hello");
    const signature = identity.sign(message);
    expect(verifySignature(identity.publicKey, message, signature)).toBe(true);
    expect(verifySignature(identity.publicKey, Buffer.from("hallo"), signature)).toBe(false);
    expect(verifySignature(createIdentity().publicKey, message, signature)).toBe(false);
    const flipped = Buffer.from(signature, "base64url");
    flipped[0]! ^= 1;
    expect(verifySignature(identity.publicKey, message, flipped.toString("base64url"))).toBe(false);
  });

  it("is the one of RFC 8032, test 2", () => {
    const seed = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
    const der = Buffer.from(`302e020100300506032b657004220420${seed}`, "hex");
    const pem = `-----BEGIN PRIVATE KEY-----\n${der.toString("base64")}\n-----END PRIVATE KEY-----\n`;
    const identity = identityFromPem(pem);
    expect(Buffer.from(identity.publicKey, "base64url").toString("hex")).toBe(
      "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    );
    expect(Buffer.from(identity.sign(Buffer.from([0x72])), "base64url").toString("hex")).toBe(
      "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da" +
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    );
  });

  it.each(["", "AAAA", "A".repeat(42), "A".repeat(44), "!".repeat(43)])("'%s' verifies nothing", (key) => {
    expect(verifySignature(key, Buffer.from("x"), "A".repeat(86))).toBe(false);
  });

  it.each(["", "AAAA", "A".repeat(85), "A".repeat(87), "!".repeat(86)])("signature '%s' is not one", (signature) => {
    expect(verifySignature(createIdentity().publicKey, Buffer.from("x"), signature)).toBe(false);
  });

  it("that is no point of the curve verifies nothing", () => {
    const signature = createIdentity().sign(Buffer.from("x"));
    for (let byte = 0; byte < 256; byte++) {
      const key = Buffer.alloc(32, byte).toString("base64url");
      expect(verifySignature(key, Buffer.from("x"), signature)).toBe(false);
    }
  });
});

describe("a key file", () => {
  it("is made at first use for its owner alone, and found at the next", () => {
    const path = join(emptyFolder(), "data", "deep", "key.pem");
    const made = loadOrCreateIdentity(path);
    expect(modeOf(path)).toBe(0o600);
    expect(modeOf(join(path, "..")) & 0o077).toBe(0);
    expect(modeOf(join(path, "..", "..")) & 0o077).toBe(0);
    expect(loadOrCreateIdentity(path).publicKey).toBe(made.publicKey);
    expect(readFileSync(path, "utf8")).toBe(made.toPem());
  });

  it("is made for its owner alone in a folder that others may read", () => {
    const folder = emptyFolder();
    chmodSync(folder, 0o755);
    loadOrCreateIdentity(join(folder, "key.pem"));
    expect(modeOf(join(folder, "key.pem"))).toBe(0o600);
    expect(modeOf(folder)).toBe(0o755);
  });

  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({ type: "pkcs8", format: "pem" });
  it.each([
    ["empty", ""],
    ["cut", createIdentity().toPem().slice(0, 60)],
    ["another kind of key", rsa as string],
  ])("that is %s is an error that names it, and stays as it is", (_, content) => {
    const path = join(emptyFolder(), "key.pem");
    writeFileSync(path, content);
    expect(() => loadOrCreateIdentity(path)).toThrow(`cannot use the key file ${path}`);
    expect(readFileSync(path, "utf8")).toBe(content);
  });

  it("that is a folder is an error that names it", () => {
    const path = join(emptyFolder(), "key.pem");
    mkdirSync(path);
    expect(() => loadOrCreateIdentity(path)).toThrow(`cannot use the key file ${path}`);
  });
});
