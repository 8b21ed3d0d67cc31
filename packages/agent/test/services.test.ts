import type { OpenRequest } from "@isthmus/link";
import { fingerprintOf, LIMITS } from "@isthmus/protocol";
import { createIdentity } from "@isthmus/service";
import { beforeEach, describe, expect, test } from "vitest";
import { Services } from "../src/services.ts";
import { StateFile } from "../src/state.ts";
import { temporaryFolder } from "./support/folder.ts";
import { grantPayload } from "./support/grant.ts";
import { service } from "./support/local-service.ts";

const carol = { user: "carol", key: createIdentity().publicKey };
const coded = (code: string) => expect.objectContaining({ code });

let services: Services;
beforeEach(() => {
  services = new Services(new StateFile(temporaryFolder()));
});

describe("who may use a service", () => {
  const check = (subscriber = carol, plain = false) => services.check("web", subscriber, "bob", plain);

  test("is nobody but the own devices, where nothing is said", () => {
    services.put(service("web"));
    expect(() => check()).toThrow(coded("not-allowed"));
    expect(check({ ...carol, user: "bob" }).name).toBe("web");
  });

  test("is nobody at all before this device has an owner", () => {
    services.put(service("web"));
    expect(() => services.check("web", carol, undefined, false)).toThrow(coded("not-allowed"));
  });

  test("is everybody, a user, or one device of a user", () => {
    services.put(service("web", { anyone: true }));
    expect(check().name).toBe("web");
    services.put(service("web", { allow: ["alice", "carol"] }));
    expect(check().name).toBe("web");
    services.put(service("web", { allow: [`carol#${fingerprintOf(carol.key)}`] }));
    expect(check().name).toBe("web");
    expect(() => check({ ...carol, key: createIdentity().publicKey })).toThrow(coded("not-allowed"));
    // The user's own devices too, since it is the ISB that says which they are.
    expect(() => services.check("web", { ...carol, key: createIdentity().publicKey }, carol.user, false)).toThrow(
      coded("not-allowed"),
    );
    services.put(service("web", { allow: ["carol-2"] }));
    expect(() => check()).toThrow(coded("not-allowed"));
  });

  test("in the clear is a matter of its own", () => {
    services.put(service("web", { anyone: true }));
    expect(() => check(carol, true)).toThrow(coded("plain-refused"));
    services.put(service("web", { anyone: true, plain: true }));
    expect(check(carol, true).name).toBe("web");
  });

  test("is nobody where there is no such service", () => {
    expect(() => check()).toThrow(coded("no-such-service"));
  });
});

describe("an open", () => {
  const nowS = Math.floor(Date.now() / 1000);
  const grant = grantPayload({ sbr: carol });
  const request: OpenRequest = {
    subscription: grant.sub,
    channel: "tcp",
    opener: "subscriber",
    proto: "tcp",
    plain: false,
  };
  const admit = (changes: Partial<OpenRequest> = {}, peer = carol.key, now = nowS) =>
    services.admit(peer, { ...request, ...changes }, "bob", now);

  beforeEach(() => {
    services.put(
      service("web", {
        anyone: true,
        channels: [
          { id: "tcp", proto: "tcp", opener: "subscriber", target: "192.168.1.7:80" },
          { id: "back", proto: "udp", opener: "provider" },
        ],
      }),
    );
    services.grant(grant.sub, grant);
  });

  test("under a grant is let through to its channel's target", () => {
    expect(admit()).toEqual({ host: "192.168.1.7", port: 80 });
  });

  test("of somebody else, or under no grant, is refused", () => {
    expect(() => admit({}, createIdentity().publicKey)).toThrow(coded("no-such-subscription"));
    expect(() => admit({ subscription: grantPayload().sub })).toThrow(coded("no-such-subscription"));
    services.revoke(grant.sub);
    expect(() => admit()).toThrow(coded("no-such-subscription"));
  });

  test("under a grant that is over is refused at its last second", () => {
    expect(admit({}, carol.key, grant.exp - 1)).toBeDefined();
    expect(() => admit({}, carol.key, grant.exp)).toThrow(coded("grant-expired"));
  });

  test("of a channel that is none, in another protocol or direction, is refused", () => {
    expect(() => admit({ channel: "ssh" })).toThrow(coded("unknown-channel"));
    expect(() => admit({ proto: "udp" })).toThrow(coded("unknown-channel"));
    expect(() => admit({ opener: "provider" })).toThrow(coded("unknown-channel"));
    expect(() => admit({ channel: "back", proto: "udp" })).toThrow(coded("unknown-channel"));
    expect(() => admit({ channel: "back", proto: "udp", opener: "provider" })).toThrow(coded("unknown-channel"));
  });

  test("is refused from the moment on that the list says so, whatever the ISB granted", () => {
    services.put(service("web", { allow: ["alice"] }));
    expect(() => admit()).toThrow(coded("not-allowed"));
    services.remove("web");
    expect(() => admit()).toThrow(coded("no-such-service"));
  });
});

describe("grants", () => {
  test("are found by service and by peer, until they are revoked, replaced or over", () => {
    const one = grantPayload({ sbr: carol });
    const two = grantPayload({ sbr: carol, svc: "ssh" });
    const three = grantPayload();
    for (const grant of [one, two, three]) services.grant(grant.sub, grant);
    expect(services.subscriptionsTo()).toHaveLength(3);
    expect(services.subscriptionsTo("web")).toEqual([one.sub, three.sub]);
    expect(services.subscriptionsOf(carol.key)).toEqual([one.sub, two.sub]);

    services.revoke(one.sub);
    services.revoke(one.sub);
    expect(services.subscriptionsOf(carol.key)).toEqual([two.sub]);
    services.grant(two.sub, { ...two, sbr: three.sbr });
    expect(services.subscriptionsOf(carol.key)).toEqual([]);
    expect(services.subscriptionsOf(three.sbr.key)).toEqual([three.sub, two.sub]);

    services.grant(one.sub, { ...one, exp: one.iat + 10 });
    services.tidy(one.iat + 9);
    expect(services.subscriptionsOf(carol.key)).toEqual([one.sub]);
    services.tidy(one.iat + 10);
    expect(services.subscriptionsOf(carol.key)).toEqual([]);
    services.revokeAll();
    expect([services.subscriptionsTo(), services.subscriptionsOf(three.sbr.key)]).toEqual([[], []]);
  });
});

describe("what is provided", () => {
  test("is told to the ISB without its targets and without fingerprints", () => {
    services.put(service("web", { allow: [`carol#${fingerprintOf(carol.key)}`, "carol", "alice"], description: "a" }));
    expect(services.specs()).toEqual([
      {
        name: "web",
        channels: [{ id: "tcp", proto: "tcp", opener: "subscriber" }],
        behaviour: "plain",
        plain: false,
        description: "a",
        allow: { anyone: false, users: ["carol", "alice"] },
      },
    ]);
  });

  test("keeps its place when it changes, and has an end", () => {
    services.put(service("a"));
    services.put(service("b"));
    services.put(service("a", { anyone: true }));
    expect(services.all.map(({ name, anyone }) => [name, anyone])).toEqual([
      ["a", true],
      ["b", false],
    ]);
    for (let n = 2; n < LIMITS.servicesPerDevice; n++) services.put(service(`s${n}`));
    expect(() => services.put(service("one-more"))).toThrow(coded("too-many"));
    services.put(service("a"));
    services.remove("a");
    expect(() => services.remove("a")).toThrow(coded("no-such-service"));
    services.put(service("one-more"));
  });

  test("with two channels of one id is refused here, since the ISB would refuse all that is declared with it", () => {
    const channel = { id: "tcp", proto: "tcp", opener: "subscriber", target: "127.0.0.1:1" } as const;
    expect(() => services.put(service("web", { channels: [channel, channel] }))).toThrow(coded("bad-request"));
    expect(services.all).toEqual([]);
  });

  test("is as the ISB said of its newest form, as long as there is a session", () => {
    const state = (isUp = true) => services.report("web", 0, isUp).state;
    services.put(service("web"));
    expect(state()).toBe("offline");
    services.declared("web", { code: "name-taken", message: "no" });
    expect(services.report("web", 0, true)).toMatchObject({ state: "refused", code: "name-taken", message: "no" });
    expect(services.report("web", 0, false)).toEqual(expect.not.objectContaining({ code: expect.anything() }));
    services.put(service("web", { anyone: true }));
    expect(services.outcome("web")).toBeUndefined();
    services.declared("web", "offered");
    expect([state(), state(false)]).toEqual(["offered", "offline"]);
    services.offline();
    expect(state()).toBe("offline");
    services.remove("web");
    services.declared("web", "offered");
    expect(services.outcome("web")).toBeUndefined();
  });
});
