import { type Link, type OpenRequest, respond, type X25519KeyPair } from "@isthmus/link";
import {
  fingerprintOf,
  type HostPort,
  IsthmusError,
  type LocalService,
  type ServiceReport,
  serviceRefText,
  toIsthmusError,
} from "@isthmus/protocol";
import type { Identity, Logger } from "@isthmus/service";
import { verifyGrant } from "@isthmus/session";
import type { AgentMetrics } from "./agent-metrics.ts";
import type { AskBody, IsbSession, ToldBody } from "./isb-connection.ts";
import type { Links } from "./links.ts";
import type { Services } from "./services.ts";
import { useDirect } from "./subscription.ts";

/** What a provider needs of the daemon around it. */
export interface ProviderWorld {
  identity(): Identity;
  staticKey: X25519KeyPair;
  services: Services;
  links(): Links;
  isb(): IsbSession | undefined;
  /** The user that this device belongs to. */
  user(): string | undefined;
  /** @throws IsthmusError `not-logged-in` and the like */
  requireIsb(): IsbSession;
  /** Declares the desired state to the ISB, if its session is up. @throws IsthmusError of the ISB */
  redeclare(): Promise<void>;
  useAllocation(link: Link, offer: NonNullable<ToldBody["allocation"]>): void;
  metrics(): AgentMetrics;
  logger: Logger;
}

/** This device as one that provides: what it offers, to whom, and the last word on who uses it. */
export class Provider {
  readonly #world: ProviderWorld;
  readonly #services: Services;
  /** What is provided changes step by step: each one may have to be taken back. */
  #changing: Promise<unknown> = Promise.resolve();

  constructor(world: ProviderWorld) {
    this.#world = world;
    this.#services = world.services;
  }

  /**
   * @throws IsthmusError `name-taken` and others of the ISB, `too-many`, `bad-request`; the service is not kept then, and
   * one that was there before goes on
   */
  provide(service: LocalService, options: { take: boolean }): Promise<ServiceReport> {
    return this.#inTurn(() => this.#provide(service, options));
  }

  async #provide(service: LocalService, options: { take: boolean }): Promise<ServiceReport> {
    const { requireIsb, redeclare } = this.#world;
    const before = this.#services.get(service.name);
    this.#services.put(service);
    try {
      if (options.take) await requireIsb().request("take", { name: service.name });
      await redeclare();
      const outcome = this.#services.outcome(service.name);
      if (typeof outcome === "object") throw new IsthmusError(outcome.code, outcome.message || undefined);
    } catch (error) {
      if (before) this.#services.put(before);
      else this.#services.remove(service.name);
      // The ISB may know the refused one, or not the one before: it is told at the next login if not now.
      await redeclare().catch(() => undefined);
      throw error;
    }
    this.#applyLists();
    return this.report(service.name);
  }

  /** @throws IsthmusError `no-such-service` */
  withdraw(name: string): Promise<void> {
    return this.#inTurn(async () => {
      this.#services.remove(name);
      for (const subscription of this.#services.subscriptionsTo(name)) this.end(subscription);
      // It is offered no more, whatever becomes of this message: the next login says so again.
      await this.#world.redeclare().catch(() => undefined);
    });
  }

  #inTurn<T>(run: () => Promise<T>): Promise<T> {
    const turn = this.#changing.then(run);
    this.#changing = turn.catch(() => undefined);
    return turn;
  }

  report(name: string): ServiceReport {
    const connections = this.#services.subscriptionsTo(name).reduce((sum, subscription) => {
      const grant = this.#services.grantOf(subscription)!;
      return sum + (this.#world.links().get(grant.sbr.key)?.countOf(subscription) ?? 0);
    }, 0);
    return this.#services.report(name, connections, this.#world.isb()?.state === "up");
  }

  /** Somebody negotiates for a service. @throws IsthmusError the refusal */
  ask(body: AskBody): { handshake: string } {
    const { service, subscriber, plain, negotiation } = body;
    const { identity, staticKey, links, user, metrics, logger } = this.#world;
    try {
      this.#services.check(service, subscriber, user(), plain);
      const subject = serviceRefText({ service, user: user() ?? "" });
      const context = { identity: identity(), staticKey, requestId: negotiation, subject };
      const answer = respond(context, Buffer.from(body.handshake, "base64url"), performance.now());
      if (answer.peer !== subscriber.key) {
        throw new IsthmusError("handshake-failed", "the broker named another subscriber than asked");
      }
      links().obtain(answer.peer).addGeneration(answer.generation);
      logger.info({ service, subscriber: subscriber.user, key: fingerprintOf(subscriber.key) }, "accepted");
      return { handshake: answer.message.toString("base64url") };
    } catch (error) {
      const { code } = toIsthmusError(error);
      metrics().refusedAsks.inc({ reason: code });
      logger.info({ service, subscriber: subscriber.user, code }, "refused");
      throw error;
    }
  }

  /** The ISB told who may use a service and where to meet. @throws IsthmusError `grant-invalid`, `grant-expired` */
  told(body: ToldBody): void {
    const { identity, links, isb, useAllocation } = this.#world;
    const issuer = isb()?.login?.serverKey;
    if (issuer === undefined) return;
    const grant = verifyGrant(body.grant, issuer, Math.floor(Date.now() / 1000));
    const isOurs =
      grant.sub === body.subscription && grant.prv.key === identity().publicKey && grant.sbr.key === body.peer.key;
    if (!isOurs) throw new IsthmusError("grant-invalid", "the grant is for something else");
    this.#services.grant(body.subscription, grant);
    const link = links().obtain(grant.sbr.key);
    if (body.allocation) useAllocation(link, body.allocation);
    if (body.direct) useDirect(link, body.direct, "provider");
  }

  /** The last word on what a subscriber opens. @throws IsthmusError the refusal */
  admit(link: Link, request: OpenRequest): HostPort {
    return this.#services.admit(link.peer, request, this.#world.user(), Math.floor(Date.now() / 1000));
  }

  /** A subscription is over: what it has open is cut. */
  end(subscription: string): void {
    const grant = this.#services.grantOf(subscription);
    this.#services.revoke(subscription);
    if (grant) this.#world.links().get(grant.sbr.key)?.endSubscription(subscription, "revoked");
  }

  /** Who is not on a list any more is cut off at once. */
  #applyLists(): void {
    for (const subscription of this.#services.subscriptionsTo()) {
      const grant = this.#services.grantOf(subscription)!;
      try {
        this.#services.check(grant.svc, grant.sbr, this.#world.user(), false);
      } catch {
        this.end(subscription);
      }
    }
  }
}
