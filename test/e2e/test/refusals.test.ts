import { Daemon, Deployment, portOf, until } from "@isthmus/e2e";
import { Lab } from "@isthmus/lab";
import { decodeInvite, encodeInvite, type Invite } from "@isthmus/protocol";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { EchoClient, EchoServer } from "./fixtures/echo.ts";
import { refusalOf } from "./fixtures/refusal.ts";
import { Traffic } from "./fixtures/traffic.ts";

const ANOTHER_FINGERPRINT = "a".repeat(32);
const TARGET = "127.0.0.1:7000";
const WORKS_AGAIN_MS = 10_000;

let lab: Lab;
let deployment: Deployment;
let alice: Daemon;
let bob: Daemon;
let mallory: Daemon;

beforeAll(async () => {
  lab = await Lab.create();
  const home = (name: string, hosts: string[]) => lab.home({ name, nat: "port-restricted", hosts });
  const [isb, ist] = await Promise.all([
    lab.host("isb"),
    lab.host("ist"),
    home("alices", ["alice"]),
    home("bobs", ["bob", "bob-2"]),
    home("mallorys", ["mallory"]),
  ]);
  deployment = await Deployment.start({ isb, ists: [ist] });
  [alice, bob, mallory] = (await Promise.all(
    ["alice", "bob", "mallory"].map((user) => deployment.daemon(lab.node(user), { user })),
  )) as [Daemon, Daemon, Daemon];
  await EchoServer.start(bob.node, 7000);
  await bob.provide("echo", "--tcp", TARGET, "--allow", "alice");
});

afterAll(async () => {
  await lab?.destroy();
});

/** What there is of subscriptions, at everybody. */
async function traces(): Promise<Record<string, number>> {
  const { isb, ist } = deployment;
  const [hers, his] = await Promise.all([alice.status(), bob.status()]);
  return {
    subscriptions: hers.subscriptions.length,
    subscribers: his.services.reduce((sum, { subscribers }) => sum + subscribers, 0),
    known: await isb.metric("isthmus_isb_subscriptions"),
    negotiations: await isb.metric("isthmus_isb_negotiations_running"),
    allocations: await ist.metric("isthmus_ist_allocations"),
  };
}

const NO_TRACE = { subscriptions: 0, subscribers: 0, known: 0, negotiations: 0, allocations: 0 };

describe("a subscription is refused", () => {
  it.each([
    ["to a service that its user does not provide", "nothing@bob", "unknown-service"],
    ["to a service of nobody", "echo@nobody", "unknown-user"],
    [
      "where the provider's key is not the one that was asked for",
      `echo@bob#${ANOTHER_FINGERPRINT}`,
      "peer-key-changed",
    ],
    ["to what is no name of a service", "echo", "bad-request"],
  ])("%s", async (_what, service, code) => {
    expect(await refusalOf(alice, "subscribe", service)).toEqual({ status: 1, code });
  });

  it("without encryption, where the provider does not consent", async () => {
    expect(await refusalOf(alice, "subscribe", "echo@bob", "--plain")).toEqual({ status: 1, code: "plain-refused" });
  });

  it("by the ISB, to a user who is not on the service's list", async () => {
    expect(await refusalOf(mallory, "subscribe", "echo@bob")).toEqual({ status: 1, code: "not-allowed" });
    expect(await bob.metric('isthmus_daemon_asks_refused_total{reason="not-allowed"}')).toBe(0);
  });

  it("by the provider itself, to another device of a user than is on its own list", async () => {
    await bob.provide("private", "--tcp", TARGET, "--allow", `alice#${ANOTHER_FINGERPRINT}`);

    expect(await refusalOf(alice, "subscribe", "private@bob")).toEqual({ status: 1, code: "not-allowed" });

    expect(await bob.metric('isthmus_daemon_asks_refused_total{reason="not-allowed"}')).toBe(1);
    await bob.json(["withdraw", "private"]);
  });

  it("and leaves nothing behind", async () => {
    await until("nothing is left", async () => {
      const left = await traces();
      return JSON.stringify(left) === JSON.stringify(NO_TRACE) ? true : Promise.reject(new Error(JSON.stringify(left)));
    });
  });
});

it("whoever is taken off the list is cut off at once, and let in again when on it again", async () => {
  const port = portOf(await alice.subscribe("echo@bob"));
  const standing = await Traffic.start(alice.node, port, ["standing"]);

  await bob.provide("echo", "--tcp", TARGET, "--allow", "mallory");

  await until("the connection is cut", () => standing.attempts.find(({ outcome }) => outcome === "ECONNRESET"));
  await alice.statusWhen("the reason is shown", ({ subscriptions }) => subscriptions[0]?.code === "not-allowed");
  const late = await EchoClient.inTurn(alice.node, port, { count: 1, workers: 1 }).report();
  expect(late).toMatchObject({ whole: 0, failures: { ECONNRESET: 1 } });
  await alice.json(["unsubscribe", "echo@bob"]);
  expect(await refusalOf(alice, "subscribe", "echo@bob")).toEqual({ status: 1, code: "not-allowed" });

  await bob.provide("echo", "--tcp", TARGET, "--allow", "alice");
  const again = portOf(await alice.subscribe("echo@bob"));
  expect(await EchoClient.inTurn(alice.node, again, { count: 1, workers: 1 }).report()).toMatchObject({ whole: 1 });
  await standing.stop();
});

describe("a name that another device of the provider takes", () => {
  let second: Daemon;
  let traffic: Traffic;

  beforeAll(async () => {
    const [subscription] = (await alice.status()).subscriptions;
    traffic = await Traffic.start(alice.node, portOf(subscription!), ["tcp"]);
    second = await deployment.daemon(lab.node("bob-2"), { user: "bob" });
    await EchoServer.start(second.node, 7000);
  });

  it("is refused unless it is said that it shall be taken", async () => {
    const refusal = await refusalOf(second, "provide", "echo", "--tcp", TARGET, "--allow", "alice");
    expect(refusal).toEqual({ status: 1, code: "name-taken" });
    expect((await second.status()).services).toEqual([]);
    expect(traffic.failuresSince(0)).toEqual([]);
  });

  it("leads to a changed key, which is not used until it is trusted", async () => {
    const { fingerprint: first } = (await bob.status()).device;
    const { fingerprint: other } = (await second.status()).device;
    await second.provide("echo", "--tcp", TARGET, "--allow", "alice", "--take");

    await alice.statusWhen("the key is refused", ({ subscriptions }) => subscriptions[0]?.code === "peer-key-changed");
    const pins = await alice.json<{ peer: string; fingerprint: string; offered?: string }[]>(["trust"]);
    expect(pins).toMatchObject([{ peer: "echo@bob", fingerprint: first, offered: other }]);
    const refused = await EchoClient.inTurn(alice.node, traffic.port, { count: 1, workers: 1 }).report();
    expect(refused).toMatchObject({ whole: 0, failures: { ECONNRESET: 1 } });
    const wrong = await refusalOf(alice, "trust", `echo@bob#${ANOTHER_FINGERPRINT}`);
    expect(wrong).toEqual({ status: 1, code: "bad-request" });

    const trusted = Date.now();
    expect(await alice.json(["trust", `echo@bob#${other}`])).toEqual({ peer: "echo@bob", fingerprint: other });

    expect(await traffic.workedAgain("tcp", trusted, WORKS_AGAIN_MS)).toBeLessThan(WORKS_AGAIN_MS);
    expect((await alice.status()).subscriptions).toMatchObject([{ state: "active", fingerprint: other }]);
    await traffic.stop();
  });

  it("and whose first device is revoked: that one is out at once, and for good", async () => {
    const { fingerprint } = (await bob.status()).device;
    await second.json(["revoke", fingerprint]);
    await bob.statusWhen("revoked", ({ isb }) => isb?.code === "device-revoked");
    await bob.stop();
    await bob.start();
    await bob.statusWhen("revoked", ({ isb }) => isb?.code === "device-revoked");
    expect(await refusalOf(bob, "login", await deployment.isb.invite("bob"))).toMatchObject({ code: "device-revoked" });
  });
});

describe("a login is refused", () => {
  let fresh: Daemon;

  beforeAll(async () => {
    fresh = await new Daemon(lab.node("bob-2"), { user: "newcomer" }).start();
  });

  async function changed(change: Partial<Invite>): Promise<string> {
    return encodeInvite({ ...decodeInvite(await deployment.isb.invite("newcomer")), ...change });
  }

  const another = { isb: ANOTHER_FINGERPRINT, certificate: "ab".repeat(32) };

  it.each<[string, string, () => Promise<string>]>([
    ["with what is no invite", "invite-invalid", async () => "isthmus1:AAAA"],
    ["with an invite for ISTs", "invite-invalid", () => deployment.isb.inviteIst()],
    [
      "with a secret that nobody gave out",
      "invite-invalid",
      () => changed({ token: Buffer.alloc(16, 7).toString("base64url") }),
    ],
    [
      "by the daemon, where the ISB has another key than the invite says",
      "wrong-server-key",
      () => changed({ isb: another.isb }),
    ],
    [
      "by the daemon, where it shows another certificate",
      "wrong-certificate",
      () => changed({ certificate: another.certificate }),
    ],
    ["where nobody is", "disconnected", () => changed({ addresses: [`${lab.node("mallory").ipv4}:1`] })],
  ])("%s", { timeout: 60_000 }, async (_what, code, invite) => {
    expect(await refusalOf(fresh, "login", await invite())).toEqual({ status: 1, code });
  });

  it("with an invite that was used", async () => {
    const invite = await deployment.isb.invite("mallory");
    const other = await new Daemon(lab.node("mallory"), { user: "thief", device: "thief" }).start();
    await fresh.login(invite);
    expect(await refusalOf(other, "login", invite)).toEqual({ status: 1, code: "invite-invalid" });
  });

  it("with one that the operator has taken back", async () => {
    const other = await new Daemon(lab.node("mallory"), { user: "late", device: "late" }).start();
    const { id, invite } = await deployment.isb.admin<{ id: string; invite: string }>("POST", "/v1/invites", {
      role: "daemon",
      user: "late",
    });
    await deployment.isb.admin("DELETE", `/v1/invites/${id}`);
    expect(await refusalOf(other, "login", invite)).toEqual({ status: 1, code: "invite-invalid" });
    expect((await other.status()).isb).toBeUndefined();
  });
});
