import type { Pair } from "./pairs.ts";

/** One of the two ends can be reached: who dials whom, where. No IST is needed then (T 3.3). */
export interface Direct {
  dialler: "subscriber" | "provider";
  addresses: string[];
}

/** The right of one device to use a service of another, as both daemons were told. */
export interface Subscription {
  readonly id: string;
  readonly service: string;
  readonly provider: { user: string; key: string };
  readonly subscriber: { user: string; key: string };
  readonly pair: Pair;
  readonly direct: Direct | undefined;
  /** Of the newest grant, in seconds since 1970. */
  issuedS: number;
  expiresS: number;
  /** The provider's process that took part in the key agreement; unknown where the ISB adopted the subscription. */
  providerBoot: string | undefined;
  /** The request that made it: its remembered answer ends with the subscription. */
  readonly negotiation: string | undefined;
  /** The subscriber's session that the answer was sent over. */
  readonly answeredOver: object | undefined;
  /** When the provider was told last, by the monotonic clock. */
  toldAt: number;
  /** The provider was away when it was to be told. */
  owed: boolean;
}
