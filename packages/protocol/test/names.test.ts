import { IsthmusError, name, parseServiceRef, serviceRefText } from "@isthmus/protocol";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

const FINGERPRINT = "abcdefghijklmnopqrstuvwxyz234567";

it.each(["a", "0", "alice", "my-host", "a.b_c-d", "x".repeat(63)])("'%s' is a name", (text) => {
  expect(name.safeParse(text).success).toBe(true);
});

it.each([
  "",
  " ",
  "Alice",
  "-a",
  "a-",
  ".a",
  "a.",
  ".",
  "..",
  "a b",
  "a\n",
  "a/b",
  "a\0",
  "a@b",
  "a#b",
  "a:b",
  "é",
  "ａ",
  "a\u200b",
  "x".repeat(64),
])("%j is no name", (text) => {
  expect(name.safeParse(text).success).toBe(false);
});

describe("a service reference", () => {
  it.each([
    ["web@alice", { service: "web", user: "alice" }],
    [`web@alice#${FINGERPRINT}`, { service: "web", user: "alice", fingerprint: FINGERPRINT }],
    ["a@b", { service: "a", user: "b" }],
  ])("%s", (text, ref) => {
    expect(parseServiceRef(text)).toEqual(ref);
    expect(serviceRefText(ref)).toBe(text.split("#")[0]);
  });

  it.each([
    ["", "form"],
    ["web", "form"],
    ["web#alice", "form"],
    ["web@alice@bob", "form"],
    ["web@alice\n", "user 'alice\n'"],
    ["web@alice#x\ny", "form"],
    ["@alice", "service ''"],
    ["web@", "user ''"],
    ["Web@alice", "service 'Web'"],
    ["web@Alice", "user 'Alice'"],
    [" web@alice", "service ' web'"],
    ["web@alice#", "fingerprint"],
    ["web@alice#abc", "fingerprint"],
    [`web@alice#${FINGERPRINT.toUpperCase()}`, "fingerprint"],
    [`web@alice#${FINGERPRINT}#`, "fingerprint"],
    ["../../etc@alice", "service '../../etc'"],
  ])("%j is refused by the part that is wrong", (text, part) => {
    expect(() => parseServiceRef(text)).toThrow(
      expect.objectContaining({ code: "bad-request", message: expect.stringContaining(part) }),
    );
  });

  it("never ends in anything but a reference or a short error of ours", () => {
    const parts = fc.array(fc.constantFrom("@", "#", "web", "alice", FINGERPRINT, "\n", "x".repeat(9000)));
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string({ unit: "binary" }),
          parts.map((list) => list.join("")),
        ),
        (text) => {
          try {
            const ref = parseServiceRef(text);
            expect(serviceRefText(ref) + (ref.fingerprint === undefined ? "" : `#${ref.fingerprint}`)).toBe(text);
          } catch (error) {
            expect(error).toBeInstanceOf(IsthmusError);
            expect((error as IsthmusError).message.length).toBeLessThan(400);
          }
        },
      ),
      { numRuns: 1000 },
    );
  });
});
