import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { CODES, LIMITS, linkControl, localApi, type Vocabulary } from "@isthmus/protocol";
import { arbitraryOf } from "@isthmus/protocol/testing";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { REFERENCE_FOLDER, referenceFiles } from "../reference/generate.ts";
import { EVENTS, overTheWire, REQUESTS, SESSION_INTERFACES } from "./vocabularies.ts";

const files = referenceFiles();
const page = files.get("protocol.md")!;

it.each([...files.keys()])(
  "docs/reference/%s is what `npm run reference -w @isthmus/protocol` makes of the sources",
  (path) => {
    expect(readFileSync(join(REFERENCE_FOLDER, path), "utf8")).toBe(files.get(path));
  },
);

it("docs/reference/schema holds nothing else", () => {
  const made = [...files.keys()].flatMap((path) => (path.startsWith("schema/") ? [path.slice("schema/".length)] : []));
  expect(readdirSync(join(REFERENCE_FOLDER, "schema")).sort()).toEqual(made.sort());
});

describe("the page", () => {
  it("has a row for each code and each limit", () => {
    for (const code of Object.keys(CODES))
      expect(page).toMatch(new RegExp(`^\\| \`${code}\` +\\| (yes|no) +\\| \\S`, "m"));
    for (const limit of Object.keys(LIMITS))
      expect(page).toMatch(new RegExp(`^\\| \`${limit}\` +\\| [\\d,]+ +\\| \\S`, "m"));
  });

  it("has a heading for each message and each call", () => {
    const headings = [...page.matchAll(/^#### (.+)$/gm)].map(([, heading]) => heading);
    expect(headings).toHaveLength(
      REQUESTS.length + EVENTS.length + Object.keys(linkControl).length + Object.keys(localApi).length,
    );
    for (const { type } of REQUESTS)
      expect(headings).toContainEqual(expect.stringMatching(`^\`${type}\` \\(request, `));
    for (const { type } of EVENTS) expect(headings).toContainEqual(expect.stringMatching(`^\`${type}\` \\(event, `));
    for (const type of Object.keys(linkControl)) expect(headings).toContain(`\`${type}\``);
    for (const [call, { method, path }] of Object.entries(localApi)) {
      expect(headings).toContain(`${call}: \`${method} ${path}\``);
    }
  });

  it("says of each message what it is for", () => {
    const bare = [...page.matchAll(/^#### (.+)\n\n(?=\||No fields|Answer)/gm)].map(([, heading]) => heading);
    // The names of these say it; a further one needs a comment in the sources.
    expect(bare).toEqual(["`hello` (event, server to client)", "`login` (request, client to server)", "`pong`"]);
  });

  it("links to sections that are there", () => {
    const anchors = new Set(
      [...page.matchAll(/^#+ (.+)$/gm)].map(([, heading]) =>
        heading!
          .toLowerCase()
          .replaceAll(/[^a-z0-9 -]/g, "")
          .replaceAll(" ", "-"),
      ),
    );
    for (const [, anchor] of page.matchAll(/\]\(#([^)]+)\)/g)) expect(anchors).toContain(anchor);
  });
});

describe("the JSON Schema files accept what the schemas accept", () => {
  const schemaOf = (file: string, definition: string): z.ZodType => {
    const { $defs } = JSON.parse(files.get(`schema/${file}.json`)!) as {
      $defs: Record<string, z.core.JSONSchema.JSONSchema>;
    };
    expect(Object.keys($defs)).toContain(definition);
    return z.fromJSONSchema($defs[definition]!);
  };
  const check = (schema: z.ZodType, body: z.ZodType, frame: object = {}): void => {
    fc.assert(
      fc.property(arbitraryOf(body), (value) => {
        expect(schema.safeParse({ ...(overTheWire(value) as object), ...frame }).error).toBeUndefined();
      }),
      { numRuns: 20 },
    );
    for (const key of Object.keys(frame)) {
      const [value] = fc.sample(arbitraryOf(body), { numRuns: 1, seed: 1 });
      expect(schema.safeParse({ ...(value as object), ...frame, [key]: {} }).success).toBe(false);
    }
  };

  it.each(Object.keys(SESSION_INTERFACES))("%s", (name) => {
    const directions = Object.entries(SESSION_INTERFACES[name]!) as [string, Vocabulary][];
    for (const [direction, { requests, events }] of directions) {
      for (const [type, { request, reply }] of Object.entries(requests)) {
        check(schemaOf(name, `${direction}.${type}`), request, { t: type, id: "r1" });
        check(schemaOf(name, `${direction}.${type}.ok`), reply, { t: "ok", re: "r1" });
      }
      for (const [type, body] of Object.entries(events))
        check(schemaOf(name, `${direction}.${type}`), body, { t: type });
    }
  });

  it("link-control", () => {
    for (const [type, body] of Object.entries(linkControl)) check(schemaOf("link-control", type), body, { t: type });
  });

  it("local-api", () => {
    for (const [call, { body, reply }] of Object.entries(localApi)) {
      check(schemaOf("local-api", `${call}.body`), body);
      check(schemaOf("local-api", `${call}.reply`), reply);
    }
  });
});
