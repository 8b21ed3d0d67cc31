import { PortMapper } from "@isthmus/portmap";
import { FakeGateway, type FakeSettings } from "@isthmus/portmap/testing";
import { afterEach, expect, it } from "vitest";
import type { Binding } from "../src/binding.ts";
import { bindOf, newFolder, startBinding } from "./binding-at.ts";

const [HOST, OTHER_HOST] = ["127.0.0.2", "127.0.0.3"];

/** Where not the time is what is tested. */
const PATIENT_MS = 20_000;

const ends: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

/** The body over real sockets, with a gateway on loopback. */
async function start(
  settings: Partial<FakeSettings> = {},
  answerMs = PATIENT_MS,
): Promise<{ fake: FakeGateway; binding: Binding }> {
  const fake = await FakeGateway.start(settings);
  ends.push(() => fake.stop({ goodbye: false }));
  let binding: Binding | undefined;
  const mapper = new PortMapper({ ...fake.optionsFor(HOST), onEvent: (event) => binding?.gatewayEvent(event) });
  ends.push(() => mapper.stop());
  await mapper.start();
  binding = await startBinding(newFolder(), { gateway: mapper, ownAddresses: () => [HOST], answerMs });
  return { fake, binding };
}

function ports(fake: FakeGateway): number[] {
  return fake.mappings.all.map(({ externalPort }) => externalPort).sort((a, b) => a - b);
}

it("of ten ports with the odd ones taken a program that tries one after the other gets the even ones", async () => {
  const { fake, binding } = await start();
  const theirs = new PortMapper(fake.optionsFor(OTHER_HOST));
  ends.push(() => theirs.stop());
  await theirs.start();
  for (const internalPort of [10_001, 10_003, 10_005, 10_007, 10_009]) {
    await theirs.map({ protocol: "tcp", internalPort, lifetimeSeconds: 600 });
  }
  const got: number[] = [];
  for (let program = 0; program < 6; program++) {
    const request = bindOf(10_000);
    for (let port = 10_000; port < 10_010; port++) {
      // What this host has taken already, the kernel refuses before anybody is asked.
      if (got.includes(port)) continue;
      const { answer } = await binding.bind({ ...request, port });
      if (answer === "succeeded") {
        got.push(port);
        break;
      }
      expect(answer).toBe("failed");
    }
  }
  expect(got).toEqual([10_000, 10_002, 10_004, 10_006, 10_008]);
  expect(ports(fake)).toEqual([10_000, 10_001, 10_002, 10_003, 10_004, 10_005, 10_006, 10_007, 10_008, 10_009]);
});

it("a gateway of 32 entries: the 33rd is ignored, kept, and mapped when room comes", async () => {
  const { fake, binding } = await start({ room: 32, fullFault: 501 });
  const requests = Array.from({ length: 33 }, (_, index) => bindOf(11_000 + index));
  for (const request of requests.slice(0, 32)) expect(await binding.bind(request)).toEqual({ answer: "succeeded" });
  expect(await binding.bind(requests[32]!)).toEqual({ answer: "ignored", reason: "failed" });
  binding.close("", requests[0]!.socket);
  await binding.idle();
  await binding.reconcile();
  await binding.idle();
  expect(ports(fake)).toEqual(requests.slice(1).map(({ port }) => port));
});

it("a gateway that starts anew has everything again", async () => {
  const { fake, binding } = await start();
  for (let index = 0; index < 5; index++) await binding.bind(bindOf(12_000 + index));
  await fake.restart({ goodbye: false });
  await expect.poll(() => ports(fake), { timeout: 2000 }).toEqual([12_000, 12_001, 12_002, 12_003, 12_004]);
});

it("a gateway that hangs holds up a bind for half a second, and late success stays only where it is wanted", async () => {
  const { fake, binding } = await start({ delayMs: 800 }, 500);
  const [kept, closed] = [bindOf(13_000), bindOf(13_001)];
  const startedMs = performance.now();
  expect(await Promise.all([binding.bind(kept), binding.bind(closed)])).toEqual([
    { answer: "ignored", reason: "no-answer" },
    { answer: "ignored", reason: "no-answer" },
  ]);
  expect(performance.now() - startedMs).toBeGreaterThan(480);
  binding.close("", closed.socket);
  fake.settings.delayMs = 0;
  await binding.idle();
  expect(ports(fake)).toEqual([13_000]);
});

it("a port that closes and is bound again while a busy gateway was not asked yet costs no call", async () => {
  const { fake, binding } = await start({ delayMs: 100 });
  const kept = bindOf(14_000);
  await binding.bind(kept);
  const asked = () => ["AddPortMapping", "DeletePortMapping"].map((action) => fake.web.asked.get(action) ?? 0);
  const others = Array.from({ length: 12 }, (_, index) => binding.bind(bindOf(14_001 + index)));
  binding.close("", kept.socket);
  await expect(binding.bind(bindOf(14_000))).resolves.toEqual({ answer: "succeeded" });
  const never = bindOf(15_000);
  const answer = binding.bind(never);
  binding.close("", never.socket);
  await Promise.all([...others, answer]);
  await binding.idle();
  expect(asked()).toEqual([13, 0]);
  expect(ports(fake)).toEqual(Array.from({ length: 13 }, (_, index) => 14_000 + index));
});
