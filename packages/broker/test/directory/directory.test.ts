import fc from "fast-check";
import { expect, test } from "vitest";
import { Directory } from "../../src/directory/directory.ts";
import { includes, type Listing } from "../../src/directory/listing.ts";
import { anyListing, USERS } from "./any-listing.ts";

const anyChange = fc.oneof(
  { weight: 3, arbitrary: anyListing.map((listing) => ({ put: listing })) },
  { weight: 1, arbitrary: anyListing.map(({ id }) => ({ remove: id })) },
  { weight: 1, arbitrary: fc.tuple(anyListing, fc.boolean()).map(([{ id }, present]) => ({ id, present })) },
);

const anyRequest = fc.record({
  asker: fc.constantFrom(...USERS),
  user: fc.option(fc.constantFrom(...USERS), { nil: undefined }),
  service: fc.option(fc.constantFrom("a", "web"), { nil: undefined }),
  away: fc.boolean(),
  limit: fc.integer({ min: 1, max: 5 }),
});

test("page by page, a user sees exactly what a look at every listing would show", () => {
  fc.assert(
    fc.property(fc.array(anyChange, { maxLength: 60 }), anyRequest, (changes, request) => {
      const directory = new Directory(() => undefined);
      const naive = new Map<string, Listing>();
      for (const change of changes) {
        if ("put" in change) {
          directory.put(change.put);
          naive.set(change.put.id, change.put);
        } else if ("remove" in change) {
          directory.remove(change.remove);
          naive.delete(change.remove);
        } else {
          directory.setPresent(change.id, change.present);
          const listing = naive.get(change.id);
          if (listing) naive.set(change.id, { ...listing, present: change.present });
        }
      }
      const { asker, user, service, away } = request;
      const expected = [...naive.values()]
        .filter((listing) => includes(listing, asker) && (away || listing.present))
        .filter((listing) => user === undefined || listing.owner === user)
        .filter((listing) => service === undefined || listing.spec.name === service)
        .map(({ id }) => id)
        .sort();

      const seen: string[] = [];
      let cursor: string | undefined;
      do {
        const page = directory.page({ ...request, cursor });
        expect(page.entries.length).toBeLessThanOrEqual(request.limit);
        seen.push(...page.entries.map((entry) => `${entry.user}/${entry.service}`));
        cursor = page.cursor;
      } while (cursor !== undefined);
      expect(seen).toEqual(expected);
      expect(directory.size).toBe(naive.size);
      expect(directory.presentCount).toBe([...naive.values()].filter(({ present }) => present).length);
    }),
    { numRuns: 500 },
  );
});

test("a page looks at a bounded number of listings, and goes on behind them", () => {
  const directory = new Directory(() => undefined);
  const allow = { anyone: true, users: [] };
  const spec = { channels: [], behaviour: "plain", plain: false, description: "", allow };
  for (let number = 0; number < 12_000; number++) {
    const name = `s${String(number).padStart(5, "0")}`;
    const id = `alice/${name}`;
    directory.put({ id, owner: "alice", allow, device: "A", deviceName: "d", spec: { ...spec, name }, present: true });
  }
  const request = { asker: "bob", service: "s11999", away: false, limit: 100 };
  const pages: number[] = [];
  let cursor: string | undefined;
  do {
    const page = directory.page({ ...request, cursor });
    pages.push(page.entries.length);
    cursor = page.cursor;
  } while (cursor !== undefined);
  expect(pages).toEqual([0, 0, 1]);
});
