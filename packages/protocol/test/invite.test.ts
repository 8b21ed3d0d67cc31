import { decodeInvite, encodeInvite, type Invite, IsthmusError, invite } from "@isthmus/protocol";
import { arbitraryOf } from "@isthmus/protocol/testing";
import fc from "fast-check";
import { expect, it } from "vitest";

const INVITE: Invite = {
  v: 1,
  role: "daemon",
  addresses: ["isb.example:443", "[2001:db8::1]:443"],
  secure: true,
  isb: "abcdefghijklmnopqrstuvwxyz234567",
  certificate: "ab".repeat(32),
  token: "AAECAwQFBgcICQoLDA0ODw",
  user: "alice",
};

function textOf(value: unknown): string {
  return `isthmus1:${Buffer.from(JSON.stringify(value)).toString("base64url")}`;
}

it("comes back from its text", () => {
  fc.assert(
    fc.property(arbitraryOf(invite), (value) => {
      expect(decodeInvite(encodeInvite(value))).toEqual(value);
    }),
  );
});

it("is found between the blanks and line breaks that a mail puts around it", () => {
  expect(decodeInvite(`\n  ${encodeInvite(INVITE)}\r\n`)).toEqual(INVITE);
});

it("ignores what a newer version adds", () => {
  expect(decodeInvite(textOf({ ...INVITE, hint: "x" }))).toEqual(INVITE);
});

it("fits with the longest addresses and names there may be", () => {
  const label = "a".repeat(61);
  const address = `${label}.${label}.${label}.${label}:65535`;
  const longest = { ...INVITE, addresses: Array(8).fill(address), user: "u".repeat(63) };
  expect(decodeInvite(encodeInvite(longest))).toEqual(longest);
});

it.each([
  ["no invite", "hello", "starts with"],
  ["nothing", "", "starts with"],
  ["another version", textOf(INVITE).replace("isthmus1", "isthmus2"), "starts with"],
  ["the prefix alone", "isthmus1:", "cut or mistyped"],
  ["cut text", encodeInvite(INVITE).slice(0, 60), "cut or mistyped"],
  ["text that is no base64url", "isthmus1:!!!!", "cut or mistyped"],
  ["text without end", `isthmus1:${"A".repeat(100_000)}`, "too long"],
  ["a list", textOf([]), "malformed"],
  ["null", textOf(null), "malformed"],
  ["no address", textOf({ ...INVITE, addresses: [] }), "malformed: addresses"],
  ["nine addresses", textOf({ ...INVITE, addresses: Array(9).fill("a:1") }), "malformed: addresses"],
  ["a URL for an address", textOf({ ...INVITE, addresses: ["wss://a:1"] }), "malformed: addresses.0"],
  ["a short fingerprint", textOf({ ...INVITE, isb: "abc" }), "malformed: isb"],
  ["a token of another length", textOf({ ...INVITE, token: "AAAA" }), "malformed: token"],
  ["a token with spare bits", textOf({ ...INVITE, token: "AAECAwQFBgcICQoLDA0ODz" }), "malformed: token"],
  ["an odd role", textOf({ ...INVITE, role: "isb" }), "malformed: role"],
  ["a version inside that is not the one outside", textOf({ ...INVITE, v: 2 }), "malformed: v"],
])("%s is refused in words", (_, text, complaint) => {
  expect(() => decodeInvite(text)).toThrow(
    expect.objectContaining({ code: "invite-invalid", message: expect.stringContaining(complaint) }),
  );
});

it("random and damaged text never ends in anything but an invite or an error of ours", () => {
  const good = encodeInvite(INVITE);
  const damaged = fc
    .tuple(fc.nat(good.length - 1), fc.string({ maxLength: 3 }))
    .map(([at, patch]) => good.slice(0, at) + patch + good.slice(at + 1));
  fc.assert(
    fc.property(
      fc.oneof(
        damaged,
        fc.base64String().map((text) => `isthmus1:${text}`),
      ),
      (text) => {
        try {
          decodeInvite(text);
        } catch (error) {
          expect(error).toBeInstanceOf(IsthmusError);
        }
      },
    ),
    { numRuns: 1000 },
  );
});
