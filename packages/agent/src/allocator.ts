import type { Link } from "@isthmus/link";
import { type AllocationOffer, toIsthmusError } from "@isthmus/protocol";
import type { Logger } from "@isthmus/service";
import type { IsbSession } from "./isb-connection.ts";

/** A link asks the ISB for an allocation at most this often. */
const ASK_EVERY_MS = 500;

export interface AllocatorWorld {
  isb(): IsbSession | undefined;
  /** A living subscription of the link, held or provided: the ISB gives allocations to subscriptions alone. */
  subscriptionOf(link: Link): string | undefined;
  use(link: Link, offer: AllocationOffer): void;
  logger: Logger;
}

interface Asking {
  isUnderWay: boolean;
  /** The next question has to wait for this. */
  pause: NodeJS.Timeout | undefined;
  /** Somebody asked meanwhile: ISTs that are of no use. */
  next: string[] | undefined;
}

/** Asks the ISB for places where a link can meet, because it has none or its IST is away. */
export class Allocator {
  readonly #world: AllocatorWorld;
  readonly #asking = new WeakMap<Link, Asking>();

  constructor(world: AllocatorWorld) {
    this.#world = world;
  }

  /** What is asked too soon behind another question is asked later. @param avoid keys of ISTs that are of no use */
  ask(link: Link, avoid: string[]): void {
    const asking = this.#asking.get(link) ?? { isUnderWay: false, pause: undefined, next: undefined };
    this.#asking.set(link, asking);
    if (asking.isUnderWay || asking.pause) asking.next = [...new Set([...(asking.next ?? []), ...avoid])];
    else void this.#ask(link, asking, avoid);
  }

  async #ask(link: Link, asking: Asking, avoid: string[]): Promise<void> {
    asking.next = undefined;
    const isb = this.#world.isb();
    const subscription = this.#world.subscriptionOf(link);
    // Whatever waits for a place to meet is told when the session is up.
    if (subscription === undefined || isb?.state !== "up") return;
    asking.isUnderWay = true;
    asking.pause = setTimeout(() => {
      asking.pause = undefined;
      this.#goOn(link, asking);
    }, ASK_EVERY_MS).unref();
    try {
      const { allocation } = await isb.request("allocate", { subscription, avoid });
      this.#world.use(link, allocation);
    } catch (error) {
      this.#world.logger.info({ code: toIsthmusError(error).code }, "no other IST yet");
    } finally {
      asking.isUnderWay = false;
      this.#goOn(link, asking);
    }
  }

  #goOn(link: Link, asking: Asking): void {
    if (asking.isUnderWay || asking.pause) return;
    // Where there is a place by now the question is settled; whoever finds its IST away asks anew.
    if (asking.next && !link.ist) void this.#ask(link, asking, asking.next);
    // Whatever waits for a place to meet asks again.
    else link.meetingReady();
  }
}
