import { CODES, code, IsthmusError, isCode, toIsthmusError } from "@isthmus/protocol";
import { describe, expect, it } from "vitest";

describe("the table of codes", () => {
  it.each(Object.entries(CODES))(
    "%s is a word for wire, counter and close frame, with a sentence",
    (word, { text }) => {
      expect(word).toMatch(/^[a-z]+(-[a-z]+)*$/);
      expect(word.length).toBeLessThanOrEqual(64);
      expect(text).toMatch(/^[^.]+[^. ]$/);
      expect(new IsthmusError(word as keyof typeof CODES).message).toBe(text);
    },
  );

  it.each(["toString", "__proto__", "hasOwnProperty", "", "Internal"])("'%s' is no code", (word) => {
    expect(isCode(word)).toBe(false);
    expect(code.parse(word)).toBe("internal");
  });
});

describe("what a peer is told", () => {
  it("of an error of ours: itself", () => {
    const error = new IsthmusError("no-ist");
    expect(toIsthmusError(error)).toBe(error);
  });

  it.each([new TypeError("secret /etc/path"), "text", undefined, null, { code: "no-ist" }])(
    "of anything else: internal, with the cause kept for the log alone",
    (cause) => {
      const error = toIsthmusError(cause);
      expect(error).toMatchObject({ code: "internal", message: CODES.internal.text });
      expect(error.cause).toBe(cause);
    },
  );
});
