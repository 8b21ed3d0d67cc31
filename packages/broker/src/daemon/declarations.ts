import { isDeepStrictEqual } from "node:util";
import { IsthmusError, type isbDaemon, type ReplyInput, type RequestBody, type ServiceSpec } from "@isthmus/protocol";
import type { Identity, Logger } from "@isthmus/service";
import { type Rate, TokenBuckets, verifyGrant } from "@isthmus/session";
import type { Directory } from "../directory/directory.ts";
import { includes } from "../directory/listing.ts";
import type { Upkeep } from "../directory/upkeep.ts";
import type { Subscription } from "../meeting/subscription.ts";
import type { Subscriptions } from "../meeting/subscriptions.ts";
import type { Profiles } from "../profiles/profiles.ts";
import { serviceId } from "../profiles/records.ts";
import type { DaemonSession } from "./daemon-session.ts";

type Declaration = RequestBody<(typeof isbDaemon)["toServer"], "declare">;
type Reply = ReplyInput<(typeof isbDaemon)["toServer"], "declare">;

/** Declarations of one device that wait for each other; each may be as large as a frame. */
const MOST_DECLARATIONS = 8;

/** An answer and a declaration that was sent before it arrived may cross on one session, for at most so long. */
const CROSSING_MS = 30_000;

/** Takes what daemons declare into profiles, directory and subscriptions: what differs is changed, the rest is not touched. */
export class Declarations {
  readonly #identity: Identity;
  readonly #profiles: Profiles;
  readonly #directory: Directory;
  readonly #upkeep: Upkeep;
  readonly #subscriptions: Subscriptions;
  readonly #changes: TokenBuckets;
  readonly #logger: Logger;
  /** Services that their device has withdrawn and that are in the store still, since it is away or at work. */
  readonly #withdrawn = new Map<string, { device: string; attempt: Promise<boolean> }>();

  constructor(options: {
    identity: Identity;
    profiles: Profiles;
    directory: Directory;
    upkeep: Upkeep;
    subscriptions: Subscriptions;
    /** Services of one device that are written. */
    changes: Rate;
    logger: Logger;
  }) {
    this.#identity = options.identity;
    this.#profiles = options.profiles;
    this.#directory = options.directory;
    this.#upkeep = options.upkeep;
    this.#subscriptions = options.subscriptions;
    this.#changes = new TokenBuckets(options.changes);
    this.#logger = options.logger;
  }

  /**
   * One declaration of a device after the other: each is the whole of what it wants.
   * @throws IsthmusError `rate-limited`, `device-revoked`
   */
  async take(session: DaemonSession, declaration: Declaration): Promise<Reply> {
    const { context } = session;
    if (context.declarations >= MOST_DECLARATIONS) {
      throw new IsthmusError("rate-limited", "earlier declarations are still being carried out", {
        retryAfterMs: 1000,
      });
    }
    const before = context.declaring;
    context.declarations++;
    const taking = (async () => {
      await before?.catch(() => undefined);
      const services = await this.#takeServices(session, declaration.services);
      // While the services were written, what the device may do can have come to an end.
      if (!this.#profiles.isActive(session.key)) throw new IsthmusError("device-revoked");
      const subscriptions = this.#takeSubscriptions(session, declaration.subscriptions);
      return { services, subscriptions };
    })();
    context.declaring = taking;
    try {
      return await taking;
    } finally {
      context.declarations--;
      if (context.declaring === taking) context.declaring = undefined;
    }
  }

  /** A device takes a service's name over from another one of the same user. @throws IsthmusError `store-unavailable` */
  async takeOver(session: DaemonSession, service: string): Promise<void> {
    const id = serviceId(session.context.user, service);
    if (!this.#profiles.service(id)) return;
    await this.#profiles.put("service", id, (record) => {
      // Withdrawn this moment: the device declares it as its own.
      if (!record) throw new IsthmusError("unknown-service");
      return { ...record, device: session.key };
    });
  }

  /** Tries again to delete what was withdrawn while the store was away. */
  async sweep(): Promise<void> {
    for (const [id, { device, attempt }] of [...this.#withdrawn]) {
      const isDone = await attempt;
      if (!isDone && this.#withdrawn.get(id)?.attempt === attempt && !(await this.#withdraw(id, device))) return;
    }
  }

  async #takeServices(session: DaemonSession, specs: ServiceSpec[]): Promise<Reply["services"]> {
    const { user } = session.context;
    const names = new Set<string>();
    const outcomes = specs.map((spec) => {
      const isTwice = names.has(spec.name);
      names.add(spec.name);
      return isTwice ? new IsthmusError("bad-request", "the name is declared twice") : this.#offer(session, spec);
    });
    const withdrawals = [...this.#profiles.servicesOfDevice(session.key)]
      .filter((id) => !names.has(id.slice(user.length + 1)))
      .map((id) => this.#withdraw(id, session.key));
    await Promise.all(withdrawals);
    const settled = await Promise.all(outcomes);
    return settled.map((error, index) => ({ name: specs[index]!.name, ...complaint(error) }));
  }

  /** @returns why the service is not offered, or nothing */
  async #offer(session: DaemonSession, spec: ServiceSpec): Promise<IsthmusError | undefined> {
    const id = serviceId(session.context.user, spec.name);
    const withdrawal = this.#withdrawn.get(id);
    this.#withdrawn.delete(id);
    await withdrawal?.attempt;
    this.#upkeep.show(id);
    const known = this.#profiles.service(id);
    if (known?.device === session.key && isDeepStrictEqual(known.spec, spec)) return undefined;
    const waitMs = this.#changes.take(session.key, performance.now());
    if (waitMs > 0) return new IsthmusError("rate-limited", "the device's services change too often");
    try {
      await this.#profiles.put("service", id, (record) => {
        if (record && record.device !== session.key && this.#profiles.isActive(record.device)) {
          throw new IsthmusError("name-taken");
        }
        return { device: session.key, created: record?.created ?? new Date().toISOString(), spec };
      });
      return undefined;
    } catch (error) {
      return this.#expected(error);
    }
  }

  /** Out of the directory at once, out of the store as soon as that works. @returns whether it is out of both */
  async #withdraw(id: string, device: string): Promise<boolean> {
    this.#upkeep.hide(id);
    const attempt = this.#remove(id, device);
    const withdrawal = { device, attempt };
    this.#withdrawn.set(id, withdrawal);
    const isDone = await attempt;
    if (isDone && this.#withdrawn.get(id) === withdrawal) {
      this.#withdrawn.delete(id);
      this.#upkeep.show(id);
    }
    return isDone;
  }

  async #remove(id: string, device: string): Promise<boolean> {
    try {
      await this.#profiles.remove("service", id, (record) => record.device === device);
      return true;
    } catch (error) {
      this.#expected(error);
      return false;
    }
  }

  #takeSubscriptions(session: DaemonSession, held: Declaration["subscriptions"]): Reply["subscriptions"] {
    const named = new Set(held.map(({ subscription }) => subscription));
    for (const subscription of [...this.#subscriptions.ofSubscriber(session.key)]) {
      if (!named.has(subscription.id) && !this.#isCrossing(session, subscription)) {
        this.#subscriptions.end(subscription, "closed", "provider");
      }
    }
    return held.map(({ subscription, grant }) => {
      try {
        this.#adopt(session, subscription, grant);
        return { subscription };
      } catch (error) {
        const refusal = this.#expected(error);
        const known = this.#subscriptions.get(subscription);
        if (known?.subscriber.key === session.key) this.#subscriptions.end(known, refusal.code, "provider");
        return { subscription, ...complaint(refusal) };
      }
    });
  }

  /** The daemon may have declared before it read the answer that gave it the subscription. */
  #isCrossing(session: DaemonSession, subscription: Subscription): boolean {
    return subscription.answeredOver === session && performance.now() - subscription.toldAt < CROSSING_MS;
  }

  /** Takes a subscription for what its grant says, once the grant is proved to be this ISB's own. */
  #adopt(session: DaemonSession, id: string, grant: string): void {
    const payload = verifyGrant(grant, this.#identity.publicKey, Date.now() / 1000);
    const { sub, svc, prv, sbr, iat, exp } = payload;
    if (sub !== id) throw new IsthmusError("grant-invalid", "the grant is for another subscription");
    if (sbr.key !== session.key || sbr.user !== session.context.user) {
      throw new IsthmusError("grant-invalid", "the grant is for another device");
    }
    const provider = this.#profiles.device(prv.key);
    if (provider?.user !== prv.user) throw new IsthmusError("grant-invalid", "the provider is unknown");
    if (provider.revoked !== undefined) throw new IsthmusError("revoked", "the provider's key was revoked");
    const listing = this.#directory.get(serviceId(prv.user, svc));
    if (!listing) throw new IsthmusError("unknown-service");
    if (listing.device !== prv.key) throw new IsthmusError("replaced");
    if (!includes(listing, sbr.user)) throw new IsthmusError("not-allowed");
    this.#subscriptions.checkRoom(session.key, id);
    const known = this.#subscriptions.get(id);
    if (known?.provider.key === prv.key && known.service === svc) {
      // Another node may have renewed it.
      if (exp > known.expiresS) Object.assign(known, { issuedS: iat, expiresS: exp });
      return;
    }
    this.#subscriptions.put({
      id,
      service: svc,
      provider: prv,
      subscriber: sbr,
      direct: undefined,
      providerBoot: undefined,
      negotiation: undefined,
      answeredOver: undefined,
      issuedS: iat,
      expiresS: exp,
    });
  }

  #expected(error: unknown): IsthmusError {
    if (error instanceof IsthmusError) return error;
    this.#logger.error({ err: error }, "a declaration could not be carried out");
    return new IsthmusError("internal");
  }
}

function complaint(error: IsthmusError | undefined): { code?: IsthmusError["code"]; message?: string } {
  return error ? { code: error.code, message: error.message } : {};
}
