import { localApi, localService, subscriptionRequest } from "@isthmus/protocol";
import { arbitraryOf } from "@isthmus/protocol/testing";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { overTheWire, withUnknownFields } from "./vocabularies.ts";

const CALLS = Object.entries(localApi).map(([call, { body, reply }]) => ({ call, body, reply }));

describe.each(CALLS)("local API $call", ({ body, reply }) => {
  it.each([
    { part: "body", schema: body },
    { part: "reply", schema: reply },
  ])("its $part arrives as it was sent", ({ schema }) => {
    fc.assert(
      fc.property(arbitraryOf(schema), (sent) => {
        const arrived = schema.parse(overTheWire(sent));
        expect(schema.parse(overTheWire(arrived))).toEqual(arrived);
        expect(arrived).toMatchObject(overTheWire(sent) as object);
      }),
      { numRuns: 30 },
    );
  });
});

// A log line keeps whatever fields it has; a record's keys are data.
it.each(CALLS.filter(({ call }) => call !== "logs"))("local API $call drops what nobody knows", ({ body, reply }) => {
  for (const schema of [body, reply]) {
    fc.assert(
      fc.property(arbitraryOf(schema), (sent) => {
        const future = withUnknownFields(sent) as Record<string, unknown>;
        if ("accept" in sent) future.accept = sent.accept;
        expect(schema.parse(overTheWire(future))).toEqual(schema.parse(overTheWire(sent)));
      }),
      { numRuns: 30 },
    );
  }
});

it("no two calls share method and path", () => {
  const routes = Object.values(localApi).map(({ method, path }) => `${method} ${path}`);
  expect(new Set(routes).size).toBe(routes.length);
});

describe("a service as the user states it", () => {
  const service = { name: "web", channels: [{ id: "main", proto: "tcp", target: "127.0.0.1:80" }] };

  it.each(["bob", "bob#abcdefghijklmnopqrstuvwxyz234567", "a", "a.b-c_d"])("may allow %s", (user) => {
    expect(localService.parse({ ...service, allow: [user] }).allow).toEqual([user]);
  });

  it.each(["", "Bob", "bob ", "bob.", "-bob", "b".repeat(64), "bob#abc", "bob#", "#abcdefghijklmnopqrstuvwxyz234567"])(
    "may not allow '%s'",
    (user) => {
      expect(localService.safeParse({ ...service, allow: [user] }).success).toBe(false);
    },
  );

  it.each([
    [{ id: "main", proto: "tcp" }],
    [{ id: "back", proto: "tcp", opener: "provider", target: "127.0.0.1:80" }],
    [{ id: "main", proto: "tcp", target: "127.0.0.1" }],
    [{ id: "main", proto: "sctp", target: "127.0.0.1:80" }],
  ])("has no channel %j", (channel) => {
    expect(localService.safeParse({ ...service, channels: [channel] }).success).toBe(false);
  });
});

it.each([
  ["127.0.0.1:0", true],
  ["[::1]:0", true],
  ["localhost:0", true],
  ["127.0.0.1:8080", true],
  ["127.0.0.1", false],
  [":0", false],
  ["::1:0", false],
  ["127.0.0.1:65536", false],
  ["127.0.0.1:-1", false],
])("a subscription may listen at %s: %s", (listen, may) => {
  expect(subscriptionRequest.safeParse({ service: "web@alice", listen }).success).toBe(may);
});
