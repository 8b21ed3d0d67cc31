import { execFileSync } from "node:child_process";
import { base64url, base64urlUpTo, certificateFingerprint, fingerprint, fingerprintOf, hexId } from "@isthmus/protocol";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

describe.each([8, 16, 32, 33, 64])("base64url of %i bytes", (length) => {
  const schema = base64url(length);

  it("takes exactly the texts of so many bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 70 }), (bytes) => {
        const text = Buffer.from(bytes).toString("base64url");
        expect(schema.safeParse(text).success).toBe(bytes.length === length);
      }),
    );
    fc.assert(
      fc.property(fc.uint8Array({ minLength: length, maxLength: length }), (bytes) => {
        expect(schema.parse(Buffer.from(bytes).toString("base64url"))).toHaveLength(Math.ceil((length * 4) / 3));
      }),
    );
  });

  it("takes one text only for the same bytes", () => {
    const text = Buffer.alloc(length, 0xff).toString("base64url");
    const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const same = [...alphabet].filter((last) => {
      const other = text.slice(0, -1) + last;
      return schema.safeParse(other).success && Buffer.from(other, "base64url").equals(Buffer.alloc(length, 0xff));
    });
    expect(same).toEqual([text.at(-1)]);
  });

  it.each(["+", "/", "=", " ", "\n", "é"])("takes no '%s'", (character) => {
    const text = Buffer.alloc(length).toString("base64url");
    expect(schema.safeParse(character + text.slice(1)).success).toBe(false);
  });
});

it("base64url up to a limit takes 1 to so many bytes", () => {
  const schema = base64urlUpTo(10);
  const lengths = Array.from({ length: 14 }, (_, length) => length).filter(
    (length) => schema.safeParse(Buffer.alloc(length).toString("base64url")).success,
  );
  expect(lengths).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
});

it.each([
  [
    hexId,
    "0123456789abcdef",
    ["0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF", "0123456789abcdeg", "0x23456789abcdef"],
  ],
  [
    fingerprint,
    "abcdefghijklmnopqrstuvwxyz234567",
    ["abc", "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", "abcdefghijklmnopqrstuvwxyz234561"],
  ],
  [certificateFingerprint, "0a".repeat(32), ["0a", "0A".repeat(32), `${"0a".repeat(32)}\n`]],
])("schema %# takes its form alone", (schema, good, bad) => {
  expect(schema.parse(good)).toBe(good);
  for (const text of bad) expect(schema.safeParse(text).success).toBe(false);
});

describe("a fingerprint", () => {
  it("is what coreutils make of the key", () => {
    const key = Buffer.from(Array.from({ length: 32 }, (_, i) => (i * 37) & 0xff));
    const script = "sha256sum | head -c 40 | tr a-f A-F | basenc --base16 -d | base32 -w 0 | tr A-Z a-z";
    const expected = execFileSync("sh", ["-c", script], { input: key, encoding: "utf8" });
    expect(fingerprintOf(key)).toBe(expected);
  });

  it("is the same for raw and for encoded key, and has its form", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (key) => {
        const text = fingerprintOf(key);
        expect(fingerprint.parse(text)).toBe(fingerprintOf(Buffer.from(key).toString("base64url")));
      }),
    );
  });
});
