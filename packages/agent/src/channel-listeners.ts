import type { Socket } from "node:net";
import {
  type Channel,
  formatHostPort,
  type HostPort,
  IsthmusError,
  parseHostPort,
  type Transport,
} from "@isthmus/protocol";
import { type ClientFlow, LocalListener } from "./local-listener.ts";

/** What is remembered of a listener over a restart. */
export interface ListenAddress {
  channel: string;
  proto: Transport;
  /** HOST:PORT. */
  address: string;
}

export interface ChannelEvents {
  connection(socket: Socket, channel: string): void;
  /** A new UDP client, see {@link import("./local-listener.ts").ListenerEvents}. */
  client(channel: string, deliver: (payload: Buffer) => void, forget: () => void): ClientFlow | undefined;
}

/** The local ports of one subscription: one for each channel; the first TCP and the first UDP channel share one. */
export class ChannelListeners {
  readonly #events: ChannelEvents;
  readonly #open = new Map<string, { proto: Transport; listener: LocalListener }>();
  readonly #remembered: readonly ListenAddress[];
  readonly #main: HostPort | undefined;
  /** One after the other: two that open the same channel at once would be in each other's way. */
  #listening: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  /**
   * @param remembered where channels listened before a restart
   * @param main where the first one shall listen, and at whose host the others
   */
  constructor(events: ChannelEvents, remembered: readonly ListenAddress[], main: HostPort | undefined) {
    this.#events = events;
    this.#remembered = remembered;
    this.#main = main;
  }

  /** Where it listens; before it ever did, where it is to listen again. */
  get addresses(): ListenAddress[] {
    if (this.#open.size === 0) return [...this.#remembered];
    return [...this.#open].map(([channel, { proto, listener }]) => ({
      channel,
      proto,
      address: formatHostPort(listener.address),
    }));
  }

  /**
   * Opens what is not open yet, and closes what is no channel any more.
   * @throws IsthmusError `port-taken`, `bad-request`; `cancelled` when it was closed meanwhile
   */
  listen(channels: readonly Channel[]): Promise<void> {
    const turn = this.#listening.then(() => this.#listen(channels));
    this.#listening = turn.catch(() => undefined);
    return turn;
  }

  async #listen(channels: readonly Channel[]): Promise<void> {
    if (this.#isClosed) throw new IsthmusError("cancelled");
    for (const [id, { proto, listener }] of this.#open) {
      if (channels.some((channel) => channel.id === id && channel.proto === proto)) continue;
      this.#open.delete(id);
      if (![...this.#open.values()].some((other) => other.listener === listener)) listener.close();
    }
    const isFirst = this.#open.size === 0;
    const closed = channels.filter(({ id }) => !this.#open.has(id));
    for (const [index, group] of this.#groupsOf(closed, isFirst).entries()) {
      await this.#openGroup(group, isFirst && index === 0);
    }
  }

  close(): void {
    this.#isClosed = true;
    for (const { listener } of this.#open.values()) listener.close();
    this.#open.clear();
  }

  async #openGroup(group: readonly Channel[], isMain: boolean): Promise<void> {
    const tcp = group.find(({ proto }) => proto === "tcp");
    const udp = group.find(({ proto }) => proto === "udp");
    const listener = await LocalListener.open(
      this.#wanted(group[0]!, isMain),
      { tcp: tcp !== undefined, udp: udp !== undefined },
      {
        connection: (socket) => this.#events.connection(socket, tcp!.id),
        client: (deliver, forget) => this.#events.client(udp!.id, deliver, forget),
      },
    );
    if (this.#isClosed) {
      listener.close();
      throw new IsthmusError("cancelled");
    }
    for (const { id, proto } of group) this.#open.set(id, { proto, listener });
  }

  #wanted(channel: Channel, isMain: boolean): HostPort {
    const before = this.#addressBefore(channel);
    if (before !== undefined) return parseHostPort(before)!;
    if (isMain && this.#main) return this.#main;
    return { host: this.#main?.host ?? "127.0.0.1", port: 0 };
  }

  #addressBefore({ id, proto }: Channel): string | undefined {
    return this.#remembered.find((one) => one.channel === id && one.proto === proto)?.address;
  }

  /** Channels by port. Two that had a port each before, since one of them was added later, keep them. */
  #groupsOf(channels: readonly Channel[], isFirst: boolean): Channel[][] {
    const tcp = channels.find(({ proto }) => proto === "tcp");
    const udp = channels.find(({ proto }) => proto === "udp");
    if (!isFirst || !tcp || !udp || this.#addressBefore(tcp) !== this.#addressBefore(udp)) {
      return channels.map((channel) => [channel]);
    }
    const others = channels.filter((channel) => channel !== tcp && channel !== udp);
    return [[tcp, udp], ...others.map((channel) => [channel])];
  }
}
