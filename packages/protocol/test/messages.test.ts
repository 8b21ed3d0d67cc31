import {
  errorFrameOf,
  eventFrame,
  type Frame,
  IsthmusError,
  okFrame,
  parseFrame,
  parseReply,
  requestFrame,
} from "@isthmus/protocol";
import { arbitraryOf } from "@isthmus/protocol/testing";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EVENTS, overTheWire, REQUESTS, SPEAKERS, withUnknownFields } from "./vocabularies.ts";

const RUNS = { numRuns: 30 };
const NOTHING = { requests: {}, events: {} };

describe("requests", () => {
  it.each(REQUESTS)("$title arrives as it was sent", ({ type, vocabulary, kind }) => {
    fc.assert(
      fc.property(arbitraryOf(kind.request), (sent) => {
        const body = kind.request.parse(overTheWire(sent));
        expect(parseFrame(requestFrame(type, "r1", sent), vocabulary)).toEqual({
          kind: "request",
          type,
          id: "r1",
          body,
        });
        expect(kind.request.parse(overTheWire(body))).toEqual(body);
      }),
      RUNS,
    );
  });

  it.each(REQUESTS)("the answer to $title arrives as it was sent", ({ type, kind }) => {
    fc.assert(
      fc.property(arbitraryOf(kind.reply), (sent) => {
        const frame = parseFrame(okFrame("r1", sent), NOTHING) as Extract<Frame, { kind: "ok" }>;
        expect(frame).toMatchObject({ kind: "ok", re: "r1" });
        expect(parseReply(kind, type, frame.body)).toEqual(kind.reply.parse(overTheWire(sent)));
      }),
      RUNS,
    );
  });

  it.each(REQUESTS)(
    "fields of $title and of its answer that nobody knows are dropped",
    ({ type, vocabulary, kind }) => {
      fc.assert(
        fc.property(arbitraryOf(kind.request), arbitraryOf(kind.reply), (request, reply) => {
          const future = withUnknownFields(request) as Record<string, unknown>;
          expect(parseFrame(requestFrame(type, "r1", future), vocabulary)).toEqual(
            parseFrame(requestFrame(type, "r1", request), vocabulary),
          );
          expect(parseReply(kind, type, overTheWire(withUnknownFields(reply)) as Record<string, unknown>)).toEqual(
            parseReply(kind, type, overTheWire(reply)),
          );
        }),
        RUNS,
      );
    },
  );

  const withFields = REQUESTS.filter(({ kind }) => Object.keys(kind.request.shape).length > 0);
  it.each(withFields)("$title with a field of another type is refused by name, alone", ({ type, vocabulary, kind }) => {
    fc.assert(
      fc.property(arbitraryOf(kind.request), fc.constantFrom(...Object.keys(kind.request.shape)), (sent, field) => {
        const wrong = { ...sent, [field]: { is: "no field of ours" } };
        const frame = parseFrame(requestFrame(type, "r1", wrong), vocabulary);
        expect(frame).toMatchObject({ kind: "bad-request", type, id: "r1", error: { code: "bad-message" } });
        expect((frame as Extract<Frame, { kind: "bad-request" }>).error.message).toContain(`${type}: ${field}`);
      }),
      RUNS,
    );
  });

  it.each(SPEAKERS)("$title: an unknown request is told from an unknown event", ({ vocabulary }) => {
    for (const type of ["from-the-future", "toString", "__proto__", "constructor", ""]) {
      expect(parseFrame(JSON.stringify({ t: type, id: "a" }), vocabulary)).toEqual({
        kind: "unknown-request",
        type,
        id: "a",
      });
      expect(parseFrame(JSON.stringify({ t: type, x: 1 }), vocabulary)).toEqual({ kind: "unknown-event", type });
    }
  });
});

describe("events", () => {
  it.each(EVENTS)("$title arrives as it was sent, without what nobody knows", ({ type, vocabulary, schema }) => {
    fc.assert(
      fc.property(arbitraryOf(schema), (sent) => {
        const body = schema.parse(overTheWire(sent));
        const arrived = { kind: "event", type, body };
        expect(parseFrame(eventFrame(type, sent), vocabulary)).toEqual(arrived);
        expect(parseFrame(eventFrame(type, withUnknownFields(sent) as Record<string, unknown>), vocabulary)).toEqual(
          arrived,
        );
      }),
      RUNS,
    );
  });

  it.each(EVENTS)("$title of the wrong form ends the session", ({ type, vocabulary, schema }) => {
    const [field] = Object.keys(schema.shape);
    const text = JSON.stringify({ t: type, [field!]: { is: "no field of ours" } });
    expect(() => parseFrame(text, vocabulary)).toThrow(
      expect.objectContaining({ code: "bad-message", message: expect.stringContaining(type) }),
    );
  });
});

it("no message has a field that the frame around it uses", () => {
  const schemas = [
    ...REQUESTS.flatMap(({ kind }) => [kind.request, kind.reply]),
    ...EVENTS.map(({ schema }) => schema),
  ];
  const fields = new Set(schemas.flatMap((schema) => Object.keys(schema.shape)));
  expect(["t", "id", "re"].filter((field) => fields.has(field))).toEqual([]);
});

describe("error answers", () => {
  it("keep code, sentence and waiting time", () => {
    const error = new IsthmusError("rate-limited", "not so fast", { retryAfterMs: 250 });
    expect(parseFrame(errorFrameOf("r1", error), NOTHING)).toEqual({ kind: "error", re: "r1", error });
  });

  it.each([
    [0.5, 1],
    [-3, 0],
    [Number.POSITIVE_INFINITY, 86_400_000],
  ])("a waiting time of %d ms is sent as %d", (retryAfterMs, sent) => {
    const text = errorFrameOf("r1", new IsthmusError("rate-limited", undefined, { retryAfterMs }));
    expect(parseFrame(text, NOTHING)).toMatchObject({ kind: "error", error: { retryAfterMs: sent } });
  });

  it("a sentence that is too long is cut, not refused", () => {
    const text = errorFrameOf("r1", new IsthmusError("internal", "\u{1f480}".repeat(600)));
    const frame = parseFrame(text, NOTHING) as Extract<Frame, { kind: "error" }>;
    expect(frame.error.message).toHaveLength(1000);
  });

  it("a code from the future reaches the user inside the sentence", () => {
    const text = JSON.stringify({ t: "error", re: "r1", code: "wrong-moon", message: "it is not full" });
    expect(parseFrame(text, NOTHING)).toMatchObject({
      error: { code: "internal", message: "wrong-moon: it is not full" },
    });
  });
});
