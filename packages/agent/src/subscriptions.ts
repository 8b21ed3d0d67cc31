import { randomBytes } from "node:crypto";
import type { Link } from "@isthmus/link";
import {
  type HostPort,
  IsthmusError,
  LIMITS,
  parseHostPort,
  parseServiceRef,
  type SubscriptionRequest,
  serviceRefText,
} from "@isthmus/protocol";
import type { StateFile } from "./state.ts";
import { Subscription, type SubscriptionWorld } from "./subscription.ts";

/** The remote services that this device uses, and what is remembered of them. */
export class Subscriptions {
  readonly #file: StateFile;
  readonly #world: Omit<SubscriptionWorld, "changed">;
  readonly #byId = new Map<string, Subscription>();

  constructor(file: StateFile, world: Omit<SubscriptionWorld, "changed">) {
    this.#file = file;
    this.#world = world;
  }

  get all(): readonly Subscription[] {
    return [...this.#byId.values()];
  }

  get size(): number {
    return this.#byId.size;
  }

  get(id: string): Subscription | undefined {
    return this.#byId.get(id);
  }

  /** @param which SERVICE@USER, with or without a fingerprint, or the subscription's id */
  find(which: string): Subscription | undefined {
    const plain = which.split("#")[0]!;
    return this.#byId.get(which) ?? this.all.find(({ ref }) => ref === plain);
  }

  ofLink(link: Link): readonly Subscription[] {
    return this.all.filter((subscription) => subscription.link === link);
  }

  /** After a start: those that are remembered listen where they did, and negotiate in the background. */
  async resume(): Promise<void> {
    for (const stored of this.#file.state.subscriptions) this.#add(new Subscription(this.#worldOf(), stored));
    await Promise.all(this.all.map((subscription) => subscription.resume()));
  }

  /**
   * @param signal the user does not want it any more, though it is not there yet
   * @throws IsthmusError what stands against it; nothing is kept then
   */
  async subscribe(request: SubscriptionRequest, signal?: AbortSignal): Promise<Subscription> {
    const ref = parseServiceRef(request.service);
    const known = this.find(serviceRefText(ref));
    if (known) throw new IsthmusError("bad-request", `already subscribed to ${known.ref}: 'isthmus unsubscribe' first`);
    const subscription = this.#create(request);
    const giveUp = (): void => this.#drop(subscription);
    signal?.addEventListener("abort", giveUp, { once: true });
    try {
      await subscription.subscribe(request.waitMs);
      return subscription;
    } catch (error) {
      this.#drop(subscription);
      throw error;
    } finally {
      signal?.removeEventListener("abort", giveUp);
    }
  }

  /**
   * One that shall stand whenever it can, as a configuration file asks for it. Negotiates in the background; one that is
   * there already stays as it is.
   * @throws IsthmusError `bad-request` when the request itself is wrong, `too-many`
   */
  async keep(request: SubscriptionRequest): Promise<void> {
    if (this.find(serviceRefText(parseServiceRef(request.service)))) return;
    await this.#create(request).resume();
  }

  /** @param which see {@link find} @throws IsthmusError `no-such-subscription`, `store-unavailable` */
  async end(which: string): Promise<void> {
    const subscription = this.find(which);
    if (!subscription) throw new IsthmusError("no-such-subscription", `there is no subscription '${which}'`);
    await this.#end([subscription]);
  }

  /** Ends all. @throws IsthmusError `store-unavailable` */
  async endAll(): Promise<void> {
    await this.#end(this.all);
  }

  /** The process ends: they are remembered. */
  close(): void {
    for (const subscription of this.all) subscription.close();
  }

  async #end(subscriptions: readonly Subscription[]): Promise<void> {
    const ids = new Set(subscriptions.map(({ id }) => id));
    // On disk first: what is not ended there would be back after a restart.
    this.#file.update((state) => {
      state.subscriptions = state.subscriptions.filter(({ id }) => !ids.has(id));
    });
    for (const subscription of subscriptions) {
      this.#byId.delete(subscription.id);
      subscription.close();
    }
    await Promise.all(subscriptions.map(({ id }) => this.#tellEnd(id)));
  }

  /** One that never stood. */
  #drop(subscription: Subscription): void {
    if (!this.#byId.delete(subscription.id)) return;
    subscription.close();
    void this.#tellEnd(subscription.id);
  }

  /** An ISB that does not hear it now notices at the next login. */
  async #tellEnd(subscription: string): Promise<void> {
    await this.#world
      .isb()
      ?.request("unsubscribe", { subscription })
      .catch(() => undefined);
  }

  #create(request: SubscriptionRequest): Subscription {
    if (this.size >= LIMITS.subscriptionsPerDevice) throw new IsthmusError("too-many");
    const { service, user, fingerprint } = parseServiceRef(request.service);
    const { plain, accept } = request;
    const pin = fingerprint === undefined ? {} : { fingerprint };
    return this.#add(
      new Subscription(
        this.#worldOf(),
        { id: randomBytes(16).toString("base64url"), service, user, listen: [], plain, accept, ...pin },
        request.listen === undefined ? undefined : parseListen(request.listen),
      ),
    );
  }

  #add(subscription: Subscription): Subscription {
    this.#byId.set(subscription.id, subscription);
    return subscription;
  }

  #worldOf(): SubscriptionWorld {
    return { ...this.#world, changed: (subscription) => this.#remember(subscription) };
  }

  #remember(subscription: Subscription): void {
    if (!this.#byId.has(subscription.id)) return;
    this.#file.update(({ subscriptions }) => {
      const index = subscriptions.findIndex(({ id }) => id === subscription.id);
      subscriptions.splice(index < 0 ? subscriptions.length : index, 1, subscription.stored);
    });
  }
}

/** ADDR:PORT, where port 0 leaves the choice to the host. */
function parseListen(text: string): HostPort {
  const zero = /^(.+):0$/.exec(text);
  const parsed = zero ? { host: zero[1]!.replace(/^\[|\]$/g, ""), port: 0 } : parseHostPort(text);
  if (!parsed) throw new IsthmusError("bad-request", `'${text}' is not ADDR:PORT`);
  return parsed;
}
