import { randomBytes } from "node:crypto";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { encodeInvite, HELD_PER_MESSAGE, type Invite } from "@isthmus/protocol";
import { expect, it, vi } from "vitest";
import { BrokerFiles } from "../src/index.ts";
import { TestIsb } from "./test-isb.ts";
import { dial, startJoinedPair, startRelay, startWorld, temporaryFolder } from "./world.ts";

const key = (): string => randomBytes(32).toString("base64url");

function inviteOf(isb: TestIsb, token: string, changes: Partial<Invite> = {}): string {
  const { addresses, secure, fingerprint } = isb.broker;
  return encodeInvite({ v: 1, role: "ist", addresses, secure, isb: fingerprint, token, ...changes });
}

it("are told what the IST is", async () => {
  const isb = await TestIsb.start();
  const { relay } = await startRelay({ isbs: [isb.broker], name: "ist-1", allocations: { most: 50 } });
  expect(await isb.declared.next()).toEqual({
    address: {
      key: relay.address.key,
      name: "ist-1",
      addresses: [`127.0.0.1:${relay.port}`, `[::1]:${relay.port}`],
      secure: true,
      certificate: relay.address.certificate,
    },
    dataPath: "userspace",
    room: { allocations: 50 },
  });
  expect(await isb.held.next()).toEqual({ allocations: [], last: true });
  expect(await isb.loads.next()).toEqual({ allocations: 0, splices: 0, bytesPerSecond: 0, room: 50, draining: false });
  expect(relay.problem).toBeUndefined();
});

it("get the living allocation for the same pair, in any order and however often", async () => {
  const { isb } = await startWorld();
  const [a, b, c] = [key(), key(), key()];
  const answers = await Promise.all([isb.allocate(a, b), isb.allocate(b, a), isb.allocate(a, b)]);
  expect(answers[1]).toEqual(answers[0]);
  expect(answers[2]).toEqual(answers[0]);
  const [{ ticket, token }, other] = answers[0];
  expect(new Set([ticket, token, other.ticket, other.token]).size).toBe(4);
  expect((await isb.allocate(a, c))[0].allocation).not.toBe(answers[0][0].allocation);
});

it("do not reach each other's allocations", async () => {
  const [one, two] = [await TestIsb.start(), await TestIsb.start()];
  await startRelay({ isbs: [one.broker, two.broker] });
  await Promise.all([one.held.next(), two.held.next()]);
  const [a, b] = [key(), key()];
  const [mine] = await one.allocate(a, b);
  const [theirs] = await two.allocate(a, b);
  expect(theirs.allocation).not.toBe(mine.allocation);
  expect(theirs.token).not.toBe(mine.token);
  await two.release(mine.allocation);
  expect((await one.allocate(a, b))[0]).toEqual(mine);
});

it("are refused when the IST is full, and served again when there is room", async () => {
  const { isb } = await startWorld({ allocations: { most: 2 } });
  const [first] = await isb.allocate(key(), key());
  await isb.allocate(key(), key());
  await expect(isb.allocate(key(), key())).rejects.toMatchObject({ code: "ist-full" });
  expect(await isb.loads.next(({ allocations }) => allocations === 2)).toMatchObject({ room: 0 });
  await isb.release(first.allocation);
  await isb.allocate(key(), key());
});

it("are told what the IST holds when they come back, page by page", async () => {
  const world = await startWorld({ allocations: { most: 5000 } });
  const { identity, port } = world.isb;
  const count = HELD_PER_MESSAGE + 234;
  const made = await Promise.all(Array.from({ length: count }, () => world.isb.allocate(key(), key())));
  await world.isb.close();
  const isb = await TestIsb.start({ identity, port });
  const pages = [await isb.held.next(), await isb.held.next()];
  expect(pages.map(({ allocations, last }) => [allocations.length, last])).toEqual([
    [HELD_PER_MESSAGE, false],
    [234, true],
  ]);
  const held = pages.flatMap(({ allocations }) => allocations.map(({ allocation }) => allocation));
  expect(held.sort()).toEqual(made.map(([{ allocation }]) => allocation).sort());
});

it("are told the load every now and then", async () => {
  const { isb, ports } = await startJoinedPair({ load_seconds: 0.1 });
  const [a, b] = [dial(ports[0][0]), dial(ports[0][1])];
  a.write(Buffer.alloc(100_000));
  await b.bytes(100_000);
  const load = await isb.loads.next(({ bytesPerSecond }) => bytesPerSecond > 0);
  expect(load).toMatchObject({ allocations: 1, splices: 1 });
  await isb.loads.next(({ splices, bytesPerSecond }) => splices === 1 && bytesPerSecond === 0);
});

it("that are joined by an invite see it once; their address is kept", async () => {
  const token = randomBytes(16).toString("base64url");
  const isb = await TestIsb.start({ invite: token });
  const registration = inviteOf(isb, token);
  const { relay, config } = await startRelay({ registration });
  await isb.held.next();
  expect(await isb.logins.next()).toMatchObject({ role: "ist", invite: token, device: "ist" });
  await relay.stop();
  await startRelay(config);
  await isb.held.next();
  expect((await isb.logins.next()).invite).toBeUndefined();
});

it("that refuse the invite are asked again with it", async () => {
  const token = randomBytes(16).toString("base64url");
  const isb = await TestIsb.start({ invite: "another token" });
  const { relay, config } = await startRelay({ registration: inviteOf(isb, token) });
  expect((await isb.logins.next()).invite).toBe(token);
  expect((await isb.logins.next()).invite).toBe(token);
  await vi.waitUntil(() => relay.problem?.includes(isb.fingerprint), { timeout: 10_000, interval: 10 });
  await relay.stop();
  expect(new BrokerFiles(config.data!).all()).toMatchObject([{ fingerprint: isb.fingerprint, registered: false }]);
});

it("are kept in files that only the owner reads, the newest invite of each", async () => {
  const folder = temporaryFolder();
  const isb = await TestIsb.start();
  const files = new BrokerFiles(folder);
  expect(files.all()).toEqual([]);
  const [first, second] = [randomBytes(16), randomBytes(16)].map((bytes) => bytes.toString("base64url"));
  const joined = files.join(inviteOf(isb, first!, { certificate: "ab".repeat(32) }));
  expect(joined).toMatchObject({ ...isb.broker, certificate: "ab".repeat(32), registered: false });
  files.registered(joined);
  expect(files.join(inviteOf(isb, first!))).toMatchObject({ registered: true });
  expect(files.join(inviteOf(isb, second!))).toMatchObject({ registered: false, invite: second });
  expect(files.all()).toHaveLength(1);
  const [file] = readdirSync(join(folder, "isbs"));
  expect(statSync(join(folder, "isbs", file!)).mode & 0o077).toBe(0);
  expect(() => files.join(inviteOf(isb, first!, { role: "daemon" }))).toThrow("not for an IST");
  expect(() => files.join("isthmus1:abc")).toThrow("cut or mistyped");
});

it("make the IST ready: it says which is missing", async () => {
  const isb = await TestIsb.start();
  const { relay } = await startRelay({ isbs: [isb.broker] });
  await isb.held.next();
  await vi.waitUntil(() => relay.problem === undefined, { timeout: 10_000, interval: 10 });
  await isb.close();
  await vi.waitUntil(() => relay.problem?.includes(isb.fingerprint), { timeout: 10_000, interval: 10 });
  const { relay: alone } = await startRelay();
  expect(alone.problem).toContain("no ISB is configured");
});
