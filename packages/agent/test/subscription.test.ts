import { once } from "node:events";
import { fingerprintOf, IsthmusError, type SubscriptionReport, subscriptionRequest } from "@isthmus/protocol";
import { createIdentity } from "@isthmus/service";
import { signGrant } from "@isthmus/session";
import { describe, expect, test, vi } from "vitest";
import { StateFile } from "../src/state.ts";
import { grantPayload } from "./support/grant.ts";
import { addressOf, client, endOf } from "./support/programs.ts";
import { ScriptedIsb } from "./support/scripted-isb.ts";
import { ScriptedIst } from "./support/scripted-ist.ts";
import { codeOf, TestAgent } from "./support/world.ts";

const WAIT = { timeout: 10_000, interval: 5 };

/** A daemon that is logged in at an ISB that does as the test says. */
async function loggedIn() {
  const isb = await ScriptedIsb.start();
  const daemon = await TestAgent.start();
  await daemon.agent.login(isb.invite);
  const subscribe = (changes: object = {}, signal?: AbortSignal) =>
    daemon.agent.subscribe(subscriptionRequest.parse({ service: "web@bob", ...changes }), signal);
  const report = (): SubscriptionReport => daemon.agent.status().subscriptions[0]!;
  const stateIs = (state: SubscriptionReport["state"]) => vi.waitFor(() => expect(report().state).toBe(state), WAIT);
  return { isb, daemon, subscribe, report, stateIs };
}

describe("a subscription", () => {
  test("has its listener, its grant and the provider's key, over a restart", async () => {
    const { isb, daemon, subscribe } = await loggedIn();
    const report = await subscribe();
    expect(report).toMatchObject({
      service: "web",
      user: "bob",
      state: "active",
      fingerprint: fingerprintOf(isb.provider.publicKey),
      listen: [{ channel: "tcp", proto: "tcp" }],
      connections: 0,
      tcp: { path: "none" },
    });
    expect(new StateFile(daemon.folder).state.subscriptions).toEqual([
      { id: report.id, service: "web", user: "bob", plain: false, accept: {}, listen: report.listen },
    ]);
    await daemon.stop();
    const again = await TestAgent.start({ folder: daemon.folder });
    await vi.waitFor(() => expect(again.agent.status().subscriptions[0]!.state).toBe("active"), WAIT);
    expect(again.agent.status().subscriptions).toMatchObject([{ id: report.id, listen: report.listen }]);
  });

  test("is declared with its grant as long as that is good, and negotiated again where the ISB refuses it", async () => {
    const { isb, subscribe, stateIs } = await loggedIn();
    const { id } = await subscribe();
    isb.session.close("replaced");
    await isb.waitFor("declare", 2);
    expect(isb.declared[1]!.subscriptions).toEqual([{ subscription: id, grant: expect.any(String) }]);
    isb.onDeclare = async ({ subscriptions }) => ({
      services: [],
      subscriptions: subscriptions.map(({ subscription }) => ({ subscription, code: "replaced" })),
    });
    isb.session.close("replaced");
    await isb.waitFor("subscribe", 2);
    await stateIs("active");
    isb.session.event("ended", { subscription: id, code: "revoked" });
    await stateIs("failed");
    isb.session.close("replaced");
    await isb.waitFor("declare", 4);
    expect(isb.declared[3]!.subscriptions).toEqual([]);
  });

  test.each<[string, (isb: ScriptedIsb) => ScriptedIsb["onSubscribe"], string]>([
    [
      "a provider that the ISB names and another that answers",
      (isb) => (body, id) => isb.accept(body, id, { peer: { user: "bob", key: createIdentity().publicKey } }),
      "handshake-failed",
    ],
    ["an answer that is none", (isb) => (body, id) => isb.accept(body, id, { handshake: "AAAA" }), "handshake-failed"],
    [
      "a grant for something else",
      (isb) => (body, id) => isb.accept(body, id, { grant: isb.grant(body.subscription, { svc: "ssh" }) }),
      "grant-invalid",
    ],
    [
      "a grant for somebody else",
      (isb) => (body, id) =>
        isb.accept(body, id, {
          grant: isb.grant(body.subscription, { sbr: { user: "alice", key: createIdentity().publicKey } }),
        }),
      "grant-invalid",
    ],
    [
      "a grant that somebody else has signed",
      (isb) => (body, id) => isb.accept(body, id, { grant: signGrant(createIdentity(), grantPayload()) }),
      "grant-invalid",
    ],
    [
      "a grant that is over",
      (isb) => (body, id) => isb.accept(body, id, { grant: isb.grant(body.subscription, { iat: 1, exp: 2 }) }),
      "grant-expired",
    ],
    [
      "a refusal",
      () => () => {
        throw new IsthmusError("provider-away");
      },
      "provider-away",
    ],
  ])("is not made out of %s, and nothing is left of it", async (_what, script, code) => {
    const { isb, daemon, subscribe } = await loggedIn();
    isb.onSubscribe = script(isb);
    expect(await codeOf(subscribe())).toBe(code);
    await isb.waitFor("unsubscribe");
    expect(daemon.agent.status().subscriptions).toEqual([]);
    expect(new StateFile(daemon.folder).state.subscriptions).toEqual([]);
    isb.onSubscribe = (body, id) => isb.accept(body, id);
    expect(await subscribe()).toMatchObject({ state: "active" });
  });

  test("is not made where its port is taken, or where it cannot be remembered", async () => {
    const { daemon, subscribe } = await loggedIn();
    const taken = await (await loggedIn()).subscribe();
    expect(await codeOf(subscribe({ listen: addressOf(taken) }))).toBe("port-taken");
    expect(await codeOf(subscribe({ listen: "127.0.0.1:0", service: "web@bob" }))).toBe("no error");
    expect(await codeOf(subscribe())).toBe("bad-request");
    expect(daemon.agent.status().subscriptions).toHaveLength(1);
  });

  test("that the ISB ends is ended here, with what is open; it is asked for again", async () => {
    const { isb, subscribe, report, stateIs } = await loggedIn();
    const { id, listen } = await subscribe();
    isb.onSubscribe = () => {
      throw new IsthmusError("not-allowed");
    };
    const waiting = client(listen[0]!.address);
    await once(waiting, "connect");
    await vi.waitFor(() => expect(report().connections).toBe(1), WAIT);
    isb.session.event("ended", { subscription: id, code: "revoked" });
    expect(await endOf(waiting)).toBe("reset");
    await stateIs("failed");
    expect(report()).toMatchObject({ code: "revoked", tcp: { path: "none" }, connections: 0 });
    expect(report()).not.toHaveProperty("grantExpires");
    expect(report()).not.toHaveProperty("fingerprint");
  });

  test("whose end arrives together with its answer is asked for again, not taken for good", async () => {
    const { isb, subscribe, report, stateIs } = await loggedIn();
    isb.onSubscribe = (body, id) => {
      if (isb.count("subscribe") > 1) throw new IsthmusError("not-allowed");
      const { session } = isb;
      // Behind the answer, in the same write.
      process.nextTick(() => session.event("ended", { subscription: body.subscription, code: "revoked" }));
      return isb.accept(body, id);
    };
    await subscribe();
    await isb.waitFor("subscribe", 2);
    await stateIs("failed");
    expect(report()).toMatchObject({ code: "not-allowed" });
  });

  test("whose end was on its way before its answer is asked for again, once", async () => {
    const { isb, subscribe, stateIs } = await loggedIn();
    isb.onSubscribe = (body, id) => {
      if (isb.count("subscribe") === 1) {
        isb.session.event("ended", { subscription: body.subscription, code: "grant-expired" });
      }
      return isb.accept(body, id);
    };
    await subscribe();
    await isb.waitFor("subscribe", 2);
    await stateIs("active");
    await new Promise((resolve) => setTimeout(resolve, 700));
    expect(isb.count("subscribe")).toBe(2);
  });

  test("that is to be negotiated again while it is being negotiated is so once, whatever came of the first", async () => {
    const { isb, subscribe, stateIs } = await loggedIn();
    const { id } = await subscribe();
    isb.onSubscribe = (body, requestId) => {
      if (isb.count("subscribe") > 2) return isb.accept(body, requestId);
      isb.session.event("renegotiate", { subscription: id });
      isb.session.event("renegotiate", { subscription: id });
      throw new IsthmusError("provider-away");
    };
    isb.session.event("renegotiate", { subscription: id });
    await isb.waitFor("subscribe", 3);
    await stateIs("active");
    // The first one's failure waits for nothing any more: its next attempt would come within half a second.
    await new Promise((resolve) => setTimeout(resolve, 700));
    expect(isb.count("subscribe")).toBe(3);
  });

  test("that is ended while it is being negotiated has never been", async () => {
    const { isb, daemon, subscribe } = await loggedIn();
    const answer = Promise.withResolvers<void>();
    isb.onSubscribe = async (body, id) => {
      await answer.promise;
      return isb.accept(body, id);
    };
    const subscribing = codeOf(subscribe());
    await isb.waitFor("subscribe");
    await daemon.agent.unsubscribe("web@bob");
    answer.resolve();
    expect(await subscribing).toBe("cancelled");
    await isb.waitFor("unsubscribe", 2);
    expect(daemon.agent.status()).toMatchObject({ subscriptions: [], links: [] });
  });

  test("that nobody waits for any more is given up, and is told so to the ISB", async () => {
    const { isb, daemon, subscribe } = await loggedIn();
    const answer = Promise.withResolvers<never>();
    isb.onSubscribe = () => answer.promise;
    const user = new AbortController();
    const subscribing = codeOf(subscribe({ waitMs: 60_000 }, user.signal));
    await isb.waitFor("subscribe");
    user.abort();
    await isb.waitFor("unsubscribe");
    expect(daemon.agent.status().subscriptions).toEqual([]);
    answer.reject(new IsthmusError("cancelled"));
    expect(await subscribing).toBe("cancelled");
  });

  test("ends with the account, also one that is begun while the device logs out", async () => {
    const { isb, daemon, subscribe } = await loggedIn();
    const report = await subscribe();
    const leaving = daemon.agent.logout();
    const late = codeOf(subscribe({ service: "ssh@bob" }));
    await leaving;
    expect(await late).not.toBe("no error");
    expect(daemon.agent.status()).toMatchObject({ subscriptions: [], links: [] });
    expect(new StateFile(daemon.folder).state).toEqual({
      version: 1,
      services: [],
      subscriptions: [],
      pins: { "web@bob": expect.anything() },
    });
    expect(isb.count("unsubscribe")).toBeGreaterThanOrEqual(1);
    expect(await endOf(client(addressOf(report)))).toContain("ECONNREFUSED");
  });

  test("takes what the ISB tells it later only where it is its own", async () => {
    const { isb, subscribe, report } = await loggedIn();
    const { id, grantExpires } = await subscribe();
    const peer = { user: "bob", key: isb.provider.publicKey };
    const tell = (grant: string, from = peer) =>
      isb.session.event("told", { subscription: id, service: "web", user: "bob", peer: from, grant });
    const nowS = Math.floor(Date.now() / 1000);
    tell(isb.grant(id, { svc: "ssh", exp: nowS + 1000 }));
    tell(signGrant(createIdentity(), grantPayload({ sub: id })));
    tell(isb.grant(id, { exp: nowS + 2000 }), { ...peer, key: createIdentity().publicKey });
    // Requests and events keep their order: when this is answered, all that was told has been heard.
    await isb.session
      .request("ask", {
        negotiation: "a",
        subscription: id,
        service: "none",
        subscriber: peer,
        handshake: "AAAA",
        plain: false,
      })
      .catch(() => undefined);
    expect(report()).toMatchObject({ state: "active", grantExpires });
    tell(isb.grant(id, { exp: nowS + 3000 }));
    await vi.waitFor(() => expect(report().grantExpires).toBe(new Date((nowS + 3000) * 1000).toISOString()), WAIT);
  });
});

describe("a grant", () => {
  test("is renewed at half of its life; a failure is tried again, a refusal is negotiated anew", async () => {
    const { isb, daemon, subscribe } = await loggedIn();
    const lasting = (sub: string, svc: string, seconds: number) =>
      isb.grant(sub, { svc, exp: Math.floor(Date.now() / 1000) + seconds });
    isb.onSubscribe = ({ subscription, service, ...body }, id) => {
      const seconds = isb.count("subscribe") > 2 ? 86_400 : 4;
      const grant = lasting(subscription, service, seconds);
      return isb.accept({ subscription, service, ...body }, id, { grant });
    };
    const web = await subscribe();
    const ssh = await subscribe({ service: "ssh@bob" });
    let failures = 0;
    isb.onRenew = (id) => {
      if (id === ssh.id) throw new IsthmusError("unknown-service");
      if (failures++ === 0) throw new IsthmusError("store-unavailable");
      return { grant: lasting(id, "web", 86_400) };
    };
    await isb.waitFor("subscribe", 3);
    await isb.waitFor("renew", 3);
    await vi.waitFor(() => {
      const [renewed, negotiated] = daemon.agent.status().subscriptions;
      expect([renewed!.state, negotiated!.state]).toEqual(["active", "active"]);
      expect(renewed!.grantExpires).not.toBe(web.grantExpires);
    }, WAIT);
    expect(isb.count("subscribe")).toBe(3);
  });
});

describe("connections to its listener", () => {
  test("wait while it has no keys, and are carried on or reset with it", async () => {
    const { isb, daemon, subscribe } = await loggedIn();
    const { listen } = await subscribe();
    await daemon.stop();
    isb.onSubscribe = () => {
      throw new IsthmusError("provider-away");
    };
    const again = await TestAgent.start({ folder: daemon.folder });
    await isb.waitFor("subscribe", 2);
    const waiting = client(listen[0]!.address);
    await once(waiting, "connect");
    const end = endOf(waiting);
    await again.agent.unsubscribe("web@bob");
    expect(await end).toBe("reset");
  });
});

describe("a place to meet", () => {
  test("that there is not yet is asked for again and again, while a connection waits for it", async () => {
    const { isb, subscribe } = await loggedIn();
    const { listen } = await subscribe();
    client(listen[0]!.address);
    await isb.waitFor("allocate", 3);
    expect(isb.allocated.map(({ avoid }) => avoid)).toEqual([[], [], []]);
  });

  test("that is lost right behind the answer is asked for again, while a connection waits for it", async () => {
    const { isb, daemon, subscribe } = await loggedIn();
    const { listen } = await subscribe();
    const ist = await ScriptedIst.start();
    ist.onJoin = () => {
      if (ist.asked.length === 1) throw new IsthmusError("unknown-allocation");
    };
    isb.onAllocate = () => ({ allocation: ist.offer() });
    client(listen[0]!.address);
    await isb.waitFor("allocate", 2);
    expect(isb.allocated.map(({ avoid }) => avoid)).toEqual([[], [ist.address.key]]);
    await vi.waitFor(() => expect(daemon.agent.status().links).toMatchObject([{ cells: [0, 1] }]), WAIT);
  });

  test("is asked for under a subscription that lives", async () => {
    const { isb, daemon, subscribe } = await loggedIn();
    const web = await subscribe();
    isb.onSubscribe = (body, id) =>
      isb.accept(body, id, { grant: isb.grant(body.subscription, { svc: body.service }) });
    const ssh = await subscribe({ service: "ssh@bob" });
    isb.onSubscribe = () => {
      throw new IsthmusError("not-allowed");
    };
    isb.session.event("ended", { subscription: web.id, code: "revoked" });
    await vi.waitFor(() => expect(daemon.agent.status().subscriptions[0]!.state).toBe("failed"), WAIT);
    client(addressOf(ssh));
    await isb.waitFor("allocate");
    expect(isb.allocated[0]!.subscription).toBe(ssh.id);
  });
});
