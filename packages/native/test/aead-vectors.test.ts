import { createCipheriv } from "node:crypto";
import { describe, expect, test } from "vitest";
import { SUITE_NAMES } from "../src/aead/suite.ts";
import { engines } from "./engines.ts";

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(/\s/g, ""), "hex");

/** Published ones: without them two implementations on one OpenSSL could agree on something else. */
const VECTORS = [
  {
    source: "RFC 8439 section 2.8.2",
    suite: "chacha20-poly1305",
    key: hex("808182838485868788898a8b8c8d8e8f 909192939495969798999a9b9c9d9e9f"),
    iv: hex("070000004041424344454647"),
    header: hex("50515253c0c1c2c3c4c5c6c7"),
    plaintext: Buffer.from(
      "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.",
    ),
    ciphertext: hex(`
      d31a8d34648e60db7b86afbc53ef7ec2 a4aded51296e08fea9e2b5a736ee62d6
      3dbea45e8ca9671282fafb69da92728b 1a71de0a9e060b2905d6a5b67ecd3b36
      92ddbd7f2d778b8c9803aee328091b58 fab324e4fad675945585808b4831d7bc
      3ff4def08e4b7a9de576d26586cec64b 6116`),
    tag: hex("1ae10b594f09e26a7e902ecbd0600691"),
  },
  {
    source: "McGrew and Viega, The Galois/Counter Mode of Operation, test case 13",
    suite: "aes-256-gcm",
    key: Buffer.alloc(32),
    iv: Buffer.alloc(12),
    header: Buffer.alloc(0),
    plaintext: Buffer.alloc(0),
    ciphertext: Buffer.alloc(0),
    tag: hex("530f8afbc74536b9a963b4f1c4cb738b"),
  },
  {
    source: "the same, test case 14",
    suite: "aes-256-gcm",
    key: Buffer.alloc(32),
    iv: Buffer.alloc(12),
    header: Buffer.alloc(0),
    plaintext: Buffer.alloc(16),
    ciphertext: hex("cea7403d4d606b6e074ec5d3baf39d18"),
    tag: hex("d0d1c8a799996bf0265b98b5d48ab919"),
  },
  {
    source: "the same, test case 16",
    suite: "aes-256-gcm",
    key: hex("feffe9928665731c6d6a8f9467308308 feffe9928665731c6d6a8f9467308308"),
    iv: hex("cafebabefacedbaddecaf888"),
    header: hex("feedfacedeadbeeffeedfacedeadbeefabaddad2"),
    plaintext: hex(`
      d9313225f88406e5a55909c5aff5269a 86a7a9531534f7da2e4c303d8a318a72
      1c3c0c95956809532fcf0e2449a6b525 b16aedf5aa0de657ba637b39`),
    ciphertext: hex(`
      522dc1f099567d07f47f37a32a84427d 643a8cdcbfe5c0c97598a2bd2555d1aa
      8cb08e48590dbb3da7b08b1056828838 c5f61e6393ba7a0abcc9f662`),
    tag: hex("76fc6ece0f4e1768cddf8853bb2d551b"),
  },
] as const;

describe.each(VECTORS)("$suite, $source", ({ suite, key, iv, header, plaintext, ciphertext, tag }) => {
  const sealed = Buffer.concat([ciphertext, tag]);

  test("is what node:crypto gives", () => {
    const cipher = createCipheriv(suite as "aes-256-gcm", key, iv, { authTagLength: 16 });
    cipher.setAAD(header);
    expect(Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]).equals(sealed)).toBe(true);
  });

  test.each(engines)("is what $name seals and opens", ({ engine }) => {
    const aeadKey = engine.createKey(SUITE_NAMES.indexOf(suite), key, iv);
    const out = Buffer.alloc(sealed.length);
    engine.sealDatagram(aeadKey, 0n, header, plaintext, out);
    expect(out.equals(sealed)).toBe(true);

    const opened = Buffer.alloc(plaintext.length);
    expect(engine.openDatagram(aeadKey, 0n, Buffer.concat([header, sealed]), header.length, opened)).toBe(true);
    expect(opened.equals(plaintext)).toBe(true);
  });
});
