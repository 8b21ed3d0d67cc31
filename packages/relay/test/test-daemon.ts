import {
  ALLOCATION_PREFIX_BYTES,
  type AllocationOffer,
  addressedFrame,
  type Cell,
  type EventBody,
  type IstAddress,
  istDaemon,
  type ReplyBody,
  type RequestBody,
} from "@isthmus/protocol";
import { createIdentity, type Identity, silentLogger } from "@isthmus/service";
import { BACKOFF_TO_IST, SessionClient } from "@isthmus/session";
import { onTestFinished } from "vitest";
import { Inbox } from "./inbox.ts";

type ToClient = (typeof istDaemon)["toClient"];
type ToServer = (typeof istDaemon)["toServer"];

export interface TestDaemonOptions {
  identity?: Identity;
  /** Index of the IST's address that is dialled. */
  address?: number;
  /** Dials ws instead of what the IST declared. */
  plain?: boolean;
}

/** A daemon as far as an IST is concerned, by the real session client. */
export class TestDaemon {
  readonly identity: Identity;
  readonly client: SessionClient<typeof istDaemon>;
  readonly cells = new Inbox<RequestBody<ToClient, "cells">>();
  readonly peers = new Inbox<EventBody<ToClient, "peer">>();
  readonly halves = new Inbox<EventBody<ToClient, "half">>();
  readonly released = new Inbox<EventBody<ToClient, "released">>();
  readonly frames = new Inbox<{ allocation: string; frame: Buffer }>();
  /** Sessions that ended. */
  readonly downs = new Inbox<string>();
  /** How `cells` is answered. */
  onCells: () => Promise<void> = async () => undefined;

  constructor(ist: IstAddress, options: TestDaemonOptions = {}) {
    this.identity = options.identity ?? createIdentity();
    const secure = ist.secure && !options.plain;
    this.client = new SessionClient<typeof istDaemon>({
      protocol: istDaemon,
      identity: this.identity,
      role: "daemon",
      serverRole: "ist",
      target: {
        origins: [`${secure ? "wss" : "ws"}://${ist.addresses[options.address ?? 0]!}`],
        expect: { key: ist.key },
        ...(ist.certificate === undefined || !secure ? {} : { certificate: ist.certificate }),
      },
      boot: "0011223344556677",
      allowInsecure: false,
      backoff: BACKOFF_TO_IST,
      handlers: {
        requests: {
          cells: async (_client, body) => {
            this.cells.add(body);
            await this.onCells();
            return {};
          },
        },
        events: {
          peer: (_client, body) => this.peers.add(body),
          half: (_client, body) => this.halves.add(body),
          released: (_client, body) => this.released.add(body),
        },
        binary: (_client, bytes) => {
          const allocation = bytes.toString("hex", 0, ALLOCATION_PREFIX_BYTES);
          this.frames.add({ allocation, frame: bytes.subarray(ALLOCATION_PREFIX_BYTES) });
        },
      },
      onDown: (error) => this.downs.add(error.code),
      logger: silentLogger(),
    });
    onTestFinished(() => this.client.stop());
  }

  get key(): string {
    return this.identity.publicKey;
  }

  async up(): Promise<this> {
    this.client.start();
    await this.client.whenUp(AbortSignal.timeout(10_000));
    return this;
  }

  join({ allocation, ticket }: AllocationOffer, keepsPorts = false): Promise<ReplyBody<ToServer, "join">> {
    return this.client.request("join", { allocation, ticket, keepsPorts });
  }

  async grow({ allocation }: AllocationOffer, cells: number, pure = false): Promise<Cell[]> {
    return (await this.client.request("grow", { allocation, cells, pure })).cells;
  }

  send({ allocation }: Pick<AllocationOffer, "allocation">, frame: Buffer): void {
    this.client.binary(addressedFrame(Buffer.from(allocation, "hex"), frame));
  }
}
