import { createStaticKey, Initiator, respond } from "@isthmus/link";
import { IsthmusError } from "@isthmus/protocol";
import { createIdentity, silentLogger } from "@isthmus/service";
import { expect, onTestFinished, test } from "vitest";
import { Links, type LinksWorld } from "../src/links.ts";

function setUp(changes: Partial<LinksWorld> = {}) {
  const identity = createIdentity();
  const staticKey = createStaticKey();
  const sent: Buffer[] = [];
  const nothing = (): undefined => undefined;
  const links = new Links(
    () => identity,
    staticKey,
    {
      sendViaIsb: (frame) => sent.push(frame) > 0,
      sendViaIst: () => false,
      admit: () => {
        throw new IsthmusError("not-allowed");
      },
      keysLost: nothing,
      needAllocation: nothing,
      suspect: nothing,
      streamEnded: nothing,
      flowRefused: nothing,
      count: nothing,
      isNeeded: () => true,
      ...changes,
    },
    silentLogger(),
  );
  onTestFinished(() => links.close());
  /** Keys with a peer, as a negotiation makes them. */
  const agree = (peer = createIdentity()) => {
    const shared = { requestId: "request", subject: "web@bob" };
    const initiator = new Initiator({ identity, staticKey, ...shared });
    const answer = respond({ identity: peer, staticKey: createStaticKey(), ...shared }, initiator.message, 0);
    const { generation } = initiator.finish(answer.message, performance.now());
    links.obtain(peer.publicKey).addGeneration(generation);
    return { peer: peer.publicKey, generation: generation.id };
  };
  return { links, sent, agree };
}

test("a link is made once for each peer, and found by its keys as long as it holds them", () => {
  const { links, agree } = setUp();
  const bob = createIdentity();
  const [one, two] = [agree(bob), agree(bob)];
  const link = links.get(bob.publicKey)!;
  expect(links.all).toEqual([link]);
  expect(links.obtain(bob.publicKey)).toBe(link);
  // bob's process is another one: what the former one held is void.
  expect([links.find(one.generation), links.find(two.generation)]).toEqual([undefined, link]);
  links.close();
  expect([links.all, links.get(bob.publicKey), links.find(two.generation)]).toEqual([[], undefined, undefined]);
});

test("a link that nothing needs any more is closed after a minute, unless it is needed again", () => {
  let isNeeded = true;
  const { links, agree } = setUp({ isNeeded: () => isNeeded });
  const { peer, generation } = agree();
  links.tidy(0);
  isNeeded = false;
  links.tidy(1000);
  isNeeded = true;
  links.tidy(50_000);
  isNeeded = false;
  links.tidy(70_000);
  links.tidy(129_999);
  expect(links.find(generation)).toBe(links.get(peer));
  links.tidy(130_000);
  expect([links.all, links.find(generation)]).toEqual([[], undefined]);
  // A negotiation that begins just in time keeps it.
  const { peer: other } = agree();
  links.tidy(200_000);
  links.obtain(other);
  links.tidy(260_000);
  expect(links.get(other)).toBeDefined();
});
