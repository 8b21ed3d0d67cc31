import { IsthmusError, isbDaemon, LIMITS, parseFrame, parseReply } from "@isthmus/protocol";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { REQUESTS, SPEAKERS } from "./vocabularies.ts";

const vocabulary = isbDaemon.toServer;
const types = SPEAKERS.flatMap(({ vocabulary: { requests, events } }) => [
  ...Object.keys(requests),
  ...Object.keys(events),
]);

/** Parses and reports how it ended; anything but a frame or an error of ours is passed on. */
function outcome(text: string): string {
  try {
    return parseFrame(text, vocabulary).kind;
  } catch (error) {
    if (error instanceof IsthmusError) return error.code;
    throw error;
  }
}

describe("a frame that is none", () => {
  it.each([
    ["nothing", ""],
    ["no JSON", "hello"],
    ["cut JSON", '{"t":"list","id":"a"'],
    ["two values", '{"t":"list","id":"a"}{}'],
    ["a number", "1"],
    ["null", "null"],
    ["a list", '[{"t":"list"}]'],
    ["no type", '{"id":"a"}'],
    ["a type that is no text", '{"t":1}'],
    ["a type that is too long", JSON.stringify({ t: "x".repeat(65) })],
    ["an id that is no text", '{"t":"list","id":1}'],
    ["an empty id", '{"t":"list","id":""}'],
    ["an id with a line break", '{"t":"list","id":"a\\n"}'],
    ["an id that is too long", JSON.stringify({ t: "list", id: "a".repeat(33) })],
    ["an answer to nothing", '{"t":"ok"}'],
    ["an error without a code", '{"t":"error","re":"a","message":"m"}'],
    ["an error with an odd waiting time", '{"t":"error","re":"a","code":"internal","message":"m","retryAfterMs":0.5}'],
    ["nothing but brackets", "[".repeat(LIMITS.sessionFrameBytes)],
    ["brackets that match", "[".repeat(120_000) + "]".repeat(120_000)],
    ["an event of the wrong form", '{"t":"probed","nonce":5}'],
  ])("%s is bad-message", (_, text) => {
    expect(outcome(text)).toBe("bad-message");
  });

  it("random text never ends in anything but a frame or an error of ours", () => {
    fc.assert(fc.property(fc.string({ unit: "binary", maxLength: 300 }), (text) => void outcome(text)));
  });

  it("random JSON under known types never ends in anything but a frame or an error of ours", () => {
    const head = fc.record(
      { t: fc.constantFrom(...types, "ok", "error"), id: fc.constantFrom("a", 1, ""), re: fc.constantFrom("a", null) },
      { requiredKeys: ["t"] },
    );
    fc.assert(
      fc.property(head, fc.dictionary(fc.string(), fc.jsonValue()), (frame, body) => {
        outcome(JSON.stringify({ ...body, ...frame }));
      }),
      { numRuns: 1000 },
    );
  });

  it("random bytes changed in a good frame never end in anything but a frame or an error of ours", () => {
    const good = Buffer.from(JSON.stringify({ t: "list", id: "abc", user: "alice", away: true, limit: 20 }));
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.nat(255), fc.nat(good.length), (at, value, length) => {
        const bad = Buffer.from(good);
        bad[at] = value;
        outcome(bad.toString("utf8"));
        outcome(good.subarray(0, length).toString("utf8"));
      }),
      { numRuns: 1000 },
    );
  });
});

it("depth is no danger: a body nested as deep as a frame allows is dropped where it is unknown, refused where not", () => {
  const deep = "[".repeat(120_000) + "]".repeat(120_000);
  expect(outcome(`{"t":"list","id":"a","from the future":${deep}}`)).toBe("request");
  expect(outcome(`{"t":"declare","id":"a","services":${deep},"subscriptions":[]}`)).toBe("bad-request");
  const objects = `${'{"a":'.repeat(30_000)}1${"}".repeat(30_000)}`;
  expect(outcome(`{"t":"list","id":"a","user":${objects}}`)).toBe("bad-request");
});

it("keys that name the prototype reach nobody", () => {
  const text = '{"t":"list","id":"a","__proto__":{"user":"mallory"},"constructor":{"prototype":{"x":1}}}';
  const frame = parseFrame(text, vocabulary);
  expect(frame).toMatchObject({ kind: "request" });
  const { body } = frame as { body: Record<string, unknown> };
  expect(body.user).toBeUndefined();
  expect(({} as Record<string, unknown>).x).toBeUndefined();
});

it("lists above their limit are refused by name", () => {
  const text = JSON.stringify({
    t: "declare",
    id: "a",
    services: [],
    subscriptions: Array(LIMITS.subscriptionsPerDevice + 1).fill({}),
  });
  expect(parseFrame(text, vocabulary)).toMatchObject({ kind: "bad-request", error: { code: "bad-message" } });
});

it("an answer of the wrong form is an error of ours, whatever it is", () => {
  for (const { kind, type } of REQUESTS) {
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom(...Object.keys(kind.reply.shape), "x"), fc.jsonValue()), (body) => {
        try {
          parseReply(kind, type, body);
        } catch (error) {
          expect(error).toBeInstanceOf(IsthmusError);
        }
      }),
      { numRuns: 20 },
    );
  }
});
