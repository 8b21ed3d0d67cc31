import type { SsdpMessage } from "./ssdp-message.ts";

/** Gateways that are remembered at a time; a network has one, sometimes two. */
const MOST_GATEWAYS = 8;

interface Known {
  bootId: number | undefined;
  /** It has said goodbye and not been heard since. */
  isAway: boolean;
}

/**
 * What announcements say about a gateway's life (UPnP device architecture 1.1, 1.2). A gateway is several devices with
 * one boot id, so it goes by its address.
 */
export class BootWatch {
  readonly #gateways = new Map<string, Known>();

  /** Whether the gateway has lost its state (`restarted`) or said goodbye (`gone`) since the last message of it. */
  hear(message: SsdpMessage, from: string): "restarted" | "gone" | undefined {
    const { kind } = message;
    const known = this.#gateways.get(from);
    if (kind === "byebye") {
      if (known?.isAway) return undefined;
      this.#keep(from, { bootId: known?.bootId, isAway: true });
      return "gone";
    }
    // The number changes although the gateway lives on: its address did.
    const bootId = kind === "update" ? (message.nextBootId ?? message.bootId) : message.bootId;
    this.#keep(from, { bootId: bootId ?? known?.bootId, isAway: false });
    if (!known || kind === "update") return undefined;
    const isAnother = bootId !== undefined && known.bootId !== undefined && bootId !== known.bootId;
    return isAnother || known.isAway ? "restarted" : undefined;
  }

  #keep(address: string, known: Known): void {
    this.#gateways.delete(address);
    this.#gateways.set(address, known);
    for (const oldest of this.#gateways.keys()) {
      if (this.#gateways.size <= MOST_GATEWAYS) break;
      this.#gateways.delete(oldest);
    }
  }
}
