import { randomBytes } from "node:crypto";
import { GRANT_HEADER, GRANT_LIFETIME_S, type GrantPayload, LIMITS } from "@isthmus/protocol";
import { createIdentity, type Identity } from "@isthmus/service";
import { signGrant, verifyGrant } from "@isthmus/session";
import fc from "fast-check";
import { describe, expect, test } from "vitest";

const NOW_S = 1_800_000_000;
const isb = createIdentity();

function payloadOf(issuer: Identity, changes: Partial<GrantPayload> = {}): GrantPayload {
  return {
    iss: issuer.publicKey,
    sub: randomBytes(16).toString("base64url"),
    svc: "web",
    prv: { user: "alice", key: createIdentity().publicKey },
    sbr: { user: "bob", key: createIdentity().publicKey },
    iat: NOW_S,
    exp: NOW_S + GRANT_LIFETIME_S,
    ...changes,
  };
}

/** A token with any header and payload, rightly signed. */
function forge(header: string, payload: unknown, signer: Identity = isb): string {
  const signed = `${Buffer.from(header).toString("base64url")}.${Buffer.from(JSON.stringify(payload)).toString("base64url")}`;
  return `${signed}.${signer.sign(Buffer.from(signed))}`;
}

describe("a grant", () => {
  test("says after the check what was signed", () => {
    const payload = payloadOf(isb);
    expect(verifyGrant(signGrant(isb, payload), isb.publicKey, NOW_S)).toEqual(payload);
  });

  test("with the longest names is within the limit of the wire", () => {
    const longest = "a".repeat(63);
    const key = createIdentity().publicKey;
    const text = signGrant(
      isb,
      payloadOf(isb, { svc: longest, prv: { user: longest, key }, sbr: { user: longest, key } }),
    );
    expect(text.length).toBeLessThan(LIMITS.grantBytes);
    expect(() => verifyGrant(text, isb.publicKey, NOW_S)).not.toThrow();
  });

  test("is refused from the second on in which it expires", () => {
    const text = signGrant(isb, payloadOf(isb));
    expect(() => verifyGrant(text, isb.publicKey, NOW_S + GRANT_LIFETIME_S - 1)).not.toThrow();
    expect(() => verifyGrant(text, isb.publicKey, NOW_S + GRANT_LIFETIME_S)).toThrow(
      expect.objectContaining({ code: "grant-expired" }),
    );
  });

  test.each<[string, () => string]>([
    ["another broker signed", () => signGrant(createIdentity(), payloadOf(isb))],
    ["another broker is named in", () => signGrant(isb, payloadOf(createIdentity()))],
    ["lives longer than a day", () => signGrant(isb, payloadOf(isb, { exp: NOW_S + GRANT_LIFETIME_S + 1 }))],
    ["wants no signature", () => forge('{"alg":"none","typ":"isthmus-grant+jwt"}', payloadOf(isb))],
    ["has the header in other letters", () => forge(JSON.stringify(GRANT_HEADER, null, 1), payloadOf(isb))],
    ["brings its own key", () => forge(JSON.stringify({ ...GRANT_HEADER, jwk: {} }), payloadOf(isb))],
    ["lacks a field", () => forge(JSON.stringify(GRANT_HEADER), { ...payloadOf(isb), svc: undefined })],
    ["is no JSON object", () => forge(JSON.stringify(GRANT_HEADER), [1])],
    ["is empty", () => ""],
  ])("that %s is invalid", (_what, make) => {
    expect(() => verifyGrant(make(), isb.publicKey, NOW_S)).toThrow(expect.objectContaining({ code: "grant-invalid" }));
  });

  test("with any one character changed is refused", () => {
    const text = signGrant(isb, payloadOf(isb));
    // The last character of a signature of 64 bytes holds 4 bits that say nothing.
    const position = fc.integer({ min: 0, max: text.length - 2 });
    const character = fc.constantFrom(..."ABCXYZabcxyz0189-_.");
    fc.assert(
      fc.property(position, character, (at, other) => {
        fc.pre(text[at] !== other);
        const changed = text.slice(0, at) + other + text.slice(at + 1);
        expect(() => verifyGrant(changed, isb.publicKey, NOW_S)).toThrow(
          expect.objectContaining({ code: "grant-invalid" }),
        );
      }),
      { numRuns: 300 },
    );
  });
});
