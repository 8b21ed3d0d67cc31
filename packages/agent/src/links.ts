import { Link, type LinkEvent, type LinkHost, type OpenRequest, type X25519KeyPair } from "@isthmus/link";
import { addressedFrame, type Code, type HostPort } from "@isthmus/protocol";
import type { Identity, Logger } from "@isthmus/service";

/** A link that nothing needs any more is closed after this. */
const UNUSED_LINK_MS = 60_000;

/** What links need of the daemon around them. */
export interface LinksWorld {
  sendViaIsb(frame: Buffer): boolean;
  sendViaIst(link: Link, frame: Buffer): boolean;
  admit(link: Link, request: OpenRequest): HostPort;
  keysLost(link: Link): void;
  needAllocation(link: Link): void;
  suspect(link: Link): void;
  streamEnded(link: Link, subscription: string, code: Code, direction: "opened" | "answered"): void;
  flowRefused(link: Link, subscription: string, code: Code): void;
  count(event: LinkEvent): void;
  /** Whether a subscription, held or provided, still needs the link. */
  isNeeded(link: Link): boolean;
}

/** The links of this daemon, one for each other device, whatever the subscriptions between them. */
export class Links implements LinkHost {
  readonly #identity: () => Identity;
  readonly #staticKey: X25519KeyPair;
  readonly #world: LinksWorld;
  readonly #logger: Logger;
  readonly #links = new Map<string, { link: Link; unusedSince: number | undefined }>();
  readonly #byGeneration = new Map<string, Link>();

  constructor(identity: () => Identity, staticKey: X25519KeyPair, world: LinksWorld, logger: Logger) {
    this.#identity = identity;
    this.#staticKey = staticKey;
    this.#world = world;
    this.#logger = logger;
  }

  get all(): Link[] {
    return [...this.#links.values()].map(({ link }) => link);
  }

  get(peer: string): Link | undefined {
    return this.#links.get(peer)?.link;
  }

  /** The link to a device, made if there is none. */
  obtain(peer: string): Link {
    const known = this.#links.get(peer);
    if (known) {
      known.unusedSince = undefined;
      return known.link;
    }
    const link = new Link({
      identity: this.#identity(),
      staticKey: this.#staticKey,
      peer,
      host: this,
      logger: this.#logger.child({ peer: peer.slice(0, 8) }),
    });
    this.#links.set(peer, { link, unusedSince: undefined });
    return link;
  }

  /** The link that holds the keys of a generation. */
  find(generation: string): Link | undefined {
    const link = this.#byGeneration.get(generation);
    return link?.stateOf(generation) ? link : undefined;
  }

  /** Closes what is not needed any more; to be called now and then. */
  tidy(now: number): void {
    for (const [peer, entry] of this.#links) {
      if (this.#world.isNeeded(entry.link)) entry.unusedSince = undefined;
      else if (entry.unusedSince === undefined) entry.unusedSince = now;
      else if (now - entry.unusedSince >= UNUSED_LINK_MS) {
        this.#links.delete(peer);
        entry.link.close();
      }
    }
    for (const [generation, link] of this.#byGeneration) {
      if (!link.stateOf(generation)) this.#byGeneration.delete(generation);
    }
  }

  close(): void {
    for (const { link } of this.#links.values()) link.close();
    this.#links.clear();
    this.#byGeneration.clear();
  }

  // LinkHost

  sendViaIst(link: Link, frame: Buffer): boolean {
    return this.#world.sendViaIst(link, frame);
  }

  sendViaIsb(link: Link, frame: Buffer): boolean {
    return this.#world.sendViaIsb(addressedFrame(Buffer.from(link.peer, "base64url"), frame));
  }

  admit(link: Link, request: OpenRequest): HostPort {
    return this.#world.admit(link, request);
  }

  keysAdded(link: Link, generation: string): void {
    this.#byGeneration.set(generation, link);
  }

  keysLost(link: Link): void {
    this.#world.keysLost(link);
  }

  needAllocation(link: Link): void {
    this.#world.needAllocation(link);
  }

  suspect(link: Link): void {
    this.#world.suspect(link);
  }

  streamEnded(link: Link, subscription: string, code: Code, direction: "opened" | "answered"): void {
    this.#world.streamEnded(link, subscription, code, direction);
  }

  flowRefused(link: Link, subscription: string, code: Code): void {
    this.#world.flowRefused(link, subscription, code);
  }

  count(event: LinkEvent): void {
    this.#world.count(event);
  }
}
