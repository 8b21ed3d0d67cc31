import { type Home, Lab, type NatKind, type Program } from "@isthmus/lab";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ping, startFixture } from "./fixtures/index.ts";

const PORT = 5300;

let lab: Lab;

beforeEach(async () => {
  lab = await Lab.create();
});
afterEach(() => lab.destroy());

/** A program in each of two homes, and what makes one write to where the other's mapping should be. */
async function peers(kinds: [NatKind, NatKind], protocol: "tcp" | "udp") {
  const homes = await Promise.all(kinds.map((nat, index) => lab.home({ name: `home-${index}`, nat })));
  return Promise.all(
    homes.map(async (home, index) => {
      const program = startFixture(home.host, "punch", [protocol, String(PORT)], { stdin: "pipe" });
      await program.waitForOutput(/ready/);
      const other = homes[1 - index] as Home;
      return { home, program, reach: () => program.stdin.write(`${other.address} ${PORT}\n`) };
    }),
  );
}

describe.each(["restricted", "port-restricted"] as const)("two NATs of kind %s", (kind) => {
  test("let UDP through once both sides have sent, whoever was first", async () => {
    const [a, b] = await peers([kind, kind], "udp");
    a!.reach();
    await a!.program.waitForOutput(/sent/);
    // The datagram that came too early is dropped without a trace: it does not cost the other side its mapping.
    b!.reach();
    await a!.program.waitForOutput(new RegExp(`hello from ${b!.home.address}:${PORT}`));
    expect(b!.program.output.text).not.toContain("hello");
    a!.reach();
    await b!.program.waitForOutput(new RegExp(`hello from ${a!.home.address}:${PORT}`));
  });

  test("let two TCP connects become one connection", async () => {
    const [a, b] = await peers([kind, kind], "tcp");
    a!.reach();
    b!.reach();
    await a!.program.waitForOutput(new RegExp(`hello from ${b!.home.address}:${PORT}`));
    await b!.program.waitForOutput(new RegExp(`hello from ${a!.home.address}:${PORT}`));
  });
});

test("a full cone keeps a mapping alive that only answers", async () => {
  const [caller, stranger, home] = await Promise.all([
    lab.host("caller"),
    lab.host("stranger"),
    lab.home({ name: "home", nat: "full-cone" }),
  ]);
  const [inner, outer, third] = [home.host, caller, stranger].map((node) =>
    startFixture(node, "punch", ["udp", String(PORT)], { stdin: "pipe" }),
  ) as [Program, Program, Program];
  await Promise.all([inner, outer, third].map((program) => program.waitForOutput(/ready/)));
  inner.stdin.write(`${lab.internet.node.ipv4} ${PORT}\n`);
  await inner.waitForOutput(/sent/);
  outer.stdin.write(`${home.address} ${PORT}\n`);
  await inner.waitForOutput(new RegExp(`hello from ${caller.ipv4}`));

  // As if it had not been used for long: only the flow that the caller started is still known.
  await home.router.script("nft flush map ip nat inside");
  third.stdin.write(`${home.address} ${PORT}\n`);
  await third.waitForOutput(/sent/);
  inner.stdin.write(`${caller.ipv4} ${PORT}\n`);
  await outer.waitForOutput(new RegExp(`hello from ${home.address}:${PORT}`));
  expect(inner.output.text).not.toContain(stranger.ipv4);
  third.stdin.write(`${home.address} ${PORT}\n`);
  await inner.waitForOutput(new RegExp(`hello from ${stranger.ipv4}`));
});

test("a symmetric NAT and a port restricted one do not let UDP through", async () => {
  const [a, b] = await peers(["symmetric", "port-restricted"], "udp");
  for (const peer of [a!, b!, a!, b!]) {
    const from = peer.program.output.position;
    peer.reach();
    await peer.program.waitForOutput(/sent/, undefined, from);
  }
  // A ping takes the same way behind them: what would have come is there.
  expect([await ping(a!.home.host, b!.home.address), await ping(b!.home.host, a!.home.address)]).toEqual([1, 1]);
  for (const { program } of [a!, b!]) expect(program.output.text).not.toContain("hello");
});
