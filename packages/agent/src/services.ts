import type { OpenRequest } from "@isthmus/link";
import {
  type Code,
  explain,
  fingerprintOf,
  type GrantPayload,
  type HostPort,
  IsthmusError,
  LIMITS,
  type LocalService,
  parseHostPort,
  type ServiceReport,
  type ServiceSpec,
  serviceSpec,
} from "@isthmus/protocol";
import type { StateFile } from "./state.ts";

/**
 * The services that this device provides, and who may use them right now. The last word on every open: this side's own
 * list, by key, whatever the ISB said.
 */
export class Services {
  readonly #file: StateFile;
  /** Subscriptions of others to services of this device. */
  readonly #granted = new Map<string, GrantPayload>();
  readonly #grantedTo = new Map<string, Set<string>>();
  /** What the ISB answered to the newest declaration. */
  readonly #outcomes = new Map<string, { code: Code; message: string } | "offered">();

  constructor(file: StateFile) {
    this.#file = file;
  }

  get all(): readonly LocalService[] {
    return this.#file.state.services;
  }

  get(name: string): LocalService | undefined {
    return this.all.find((service) => service.name === name);
  }

  /**
   * @throws IsthmusError `too-many`, `bad-request`: what the ISB would refuse would make it refuse all that is declared
   */
  put(service: LocalService): void {
    const parsed = serviceSpec.safeParse(specOf(service));
    if (!parsed.success) throw new IsthmusError("bad-request", explain(parsed.error));
    if (!this.get(service.name) && this.all.length >= LIMITS.servicesPerDevice) throw new IsthmusError("too-many");
    this.#file.update((state) => {
      const index = state.services.findIndex(({ name }) => name === service.name);
      state.services.splice(index < 0 ? state.services.length : index, 1, service);
    });
    this.#outcomes.delete(service.name);
  }

  /** @throws IsthmusError `no-such-service` */
  remove(name: string): void {
    if (!this.get(name)) throw new IsthmusError("no-such-service", `this device provides no service '${name}'`);
    this.#file.update((state) => {
      state.services = state.services.filter((service) => service.name !== name);
    });
    this.#outcomes.delete(name);
  }

  /** What the ISB is told: targets stay here. */
  specs(): ServiceSpec[] {
    return this.all.map(specOf);
  }

  /** What became of a declaration; the service may have been withdrawn meanwhile. */
  declared(name: string, outcome: { code: Code; message: string } | "offered"): void {
    if (this.get(name)) this.#outcomes.set(name, outcome);
  }

  outcome(name: string): { code: Code; message: string } | "offered" | undefined {
    return this.#outcomes.get(name);
  }

  offline(): void {
    this.#outcomes.clear();
  }

  /**
   * Whether a user's device may use a service at all, as the provider itself states it.
   * @throws IsthmusError `no-such-service`, `not-allowed`, `plain-refused`
   */
  check(
    name: string,
    subscriber: { user: string; key: string },
    ownUser: string | undefined,
    plain: boolean,
  ): LocalService {
    const service = this.get(name);
    if (!service) throw new IsthmusError("no-such-service");
    const isListed = service.allow.some((entry) => {
      const [user, fingerprint] = entry.split("#");
      return user === subscriber.user && (fingerprint === undefined || fingerprint === fingerprintOf(subscriber.key));
    });
    // Which devices are the user's own is the ISB's word: a list of keys alone does not rely on it.
    const isByKeys = service.allow.length > 0 && service.allow.every((entry) => entry.includes("#"));
    const isOwn = subscriber.user === ownUser && !isByKeys;
    if (!service.anyone && !isListed && !isOwn) throw new IsthmusError("not-allowed");
    if (plain && !service.plain) throw new IsthmusError("plain-refused");
    return service;
  }

  /** A grant of the ISB, verified; it replaces an older one of the same subscription. */
  grant(subscription: string, grant: GrantPayload): void {
    this.revoke(subscription);
    this.#granted.set(subscription, grant);
    const { key } = grant.sbr;
    const known = this.#grantedTo.get(key);
    if (known) known.add(subscription);
    else this.#grantedTo.set(key, new Set([subscription]));
  }

  /** Nobody has a grant any more: it was another ISB that gave them. */
  revokeAll(): void {
    this.#granted.clear();
    this.#grantedTo.clear();
  }

  revoke(subscription: string): void {
    const grant = this.#granted.get(subscription);
    if (!grant) return;
    this.#granted.delete(subscription);
    const { key } = grant.sbr;
    const ofPeer = this.#grantedTo.get(key)!;
    ofPeer.delete(subscription);
    if (ofPeer.size === 0) this.#grantedTo.delete(key);
  }

  grantOf(subscription: string): GrantPayload | undefined {
    return this.#granted.get(subscription);
  }

  /** Forgets grants that are over; to be called now and then. */
  tidy(nowS: number): void {
    for (const [subscription, { exp }] of this.#granted) if (exp <= nowS) this.revoke(subscription);
  }

  /** Subscriptions to a service, or to all of them. */
  subscriptionsTo(service?: string): string[] {
    return [...this.#granted].filter(([, { svc }]) => (service ?? svc) === svc).map(([subscription]) => subscription);
  }

  /** Subscriptions of a device. */
  subscriptionsOf(peer: string): readonly string[] {
    return [...(this.#grantedTo.get(peer) ?? [])];
  }

  /**
   * The last word on an open that a subscriber's daemon asks for.
   * @param peer key of the daemon that asks
   * @returns where the service is
   * @throws IsthmusError the refusal
   */
  admit(peer: string, request: OpenRequest, ownUser: string | undefined, nowS: number): HostPort {
    const grant = this.grantOf(request.subscription);
    if (!grant || grant.sbr.key !== peer) throw new IsthmusError("no-such-subscription");
    if (grant.exp <= nowS) throw new IsthmusError("grant-expired");
    const service = this.check(grant.svc, { user: grant.sbr.user, key: peer }, ownUser, request.plain);
    const channel = service.channels.find(({ id, proto }) => id === request.channel && proto === request.proto);
    if (channel?.opener !== request.opener || channel.target === undefined) throw new IsthmusError("unknown-channel");
    return parseHostPort(channel.target)!;
  }

  report(name: string, connections: number, isUp: boolean): ServiceReport {
    const service = this.get(name)!;
    const outcome = this.outcome(name);
    const { channels, behaviour, plain, allow, anyone } = service;
    return {
      name,
      channels,
      behaviour,
      plain,
      allow,
      anyone,
      state: !isUp || outcome === undefined ? "offline" : outcome === "offered" ? "offered" : "refused",
      ...(isUp && typeof outcome === "object" ? outcome : {}),
      connections,
      subscribers: this.subscriptionsTo(name).length,
    };
  }
}

/** What the ISB is told of a service. */
function specOf({ name, channels, behaviour, plain, description, allow, anyone }: LocalService): ServiceSpec {
  return {
    name,
    channels: channels.map(({ id, proto, opener }) => ({ id, proto, opener })),
    behaviour,
    plain,
    description,
    allow: { anyone, users: [...new Set(allow.map((entry) => entry.split("#")[0]!))] },
  };
}
