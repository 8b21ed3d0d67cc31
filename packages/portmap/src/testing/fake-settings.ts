/** How the fake's web server takes a request for a description or an action. */
export type FakeWebMood =
  | "sound"
  /** Takes it and says nothing. */
  | "hang"
  /** No HTTP. */
  | "noise"
  /** HTTP, and something that is no XML. */
  | "garbage"
  /** A sound answer, a byte at a time. */
  | "drip"
  /** An answer without end. */
  | "flood"
  /** Elements in elements in elements. */
  | "deep"
  /** A document type with entities that grow. */
  | "entities"
  /** Half of a sound answer. */
  | "cut"
  /** Says that it is elsewhere. */
  | "redirect"
  /** A fault without a number. */
  | "unnumbered";

/** How it takes a datagram of PCP or NAT-PMP. */
export type FakeDatagramMood =
  | "sound"
  | "hang"
  /** Random bytes. */
  | "garbage"
  /** Sound answers to somebody else's question. */
  | "mistaken"
  /** Garbage first, and the sound answer after it. */
  | "noisy"
  /** Every second datagram gets lost. */
  | "lossy";

/** Everything about the fake that a test may set, at any time. */
export interface FakeSettings {
  /** Of the gateway; hosts that ask are told apart by their own addresses. */
  address: string;
  externalAddress: string;
  /** Version of UPnP IGD; 0 speaks no UPnP. */
  igd: 0 | 1 | 2;
  pcp: boolean;
  natPmp: boolean;
  web: FakeWebMood;
  datagrams: FakeDatagramMood;
  /** Time that every answer takes. */
  delayMs: number;
  /** Mappings in all. */
  room: number;
  /** What a further one is answered with: 728, or what old gateways say instead. */
  fullFault: number;
  /** 725 to every lease but 0. */
  permanentOnly: boolean;
  /** Hosts map for themselves alone. */
  secureMode: boolean;
  /** 718 to every mapping whose entry is there already, also to the owner who renews it. */
  refusesRenewal: boolean;
  /** 718 to every mapping, though no port is taken. */
  liesAboutConflicts: boolean;
  /** Says that it mapped, and does not. */
  forgetsAtOnce: boolean;
  /** Lists the same entries again and again. */
  listsForever: boolean;
  /** Fault for the deletion of what is not there; 0 is success, as from miniupnpd. */
  absentFault: number;
  /** 602 to look-ups. */
  cannotLookUp: boolean;
  /** Answers what the fake itself would not: by action, a fault's number. */
  faults: Partial<Record<string, number>>;
  /** PCP's option to rather fail than give another port: miniupnpd passes it over. */
  preferFailure: "ignored" | "honoured" | "unknown";
  /** Describes a further, disconnected connection before the one that works. */
  hasSecondService: boolean;
  /** In announcements and answers to searches, in place of the description's real address. */
  location: string | undefined;
  /** UPnP 1.0 has no boot id. */
  announcesBootId: boolean;
}

export const FAKE_DEFAULTS: FakeSettings = {
  address: "127.0.0.1",
  externalAddress: "11.99.0.1",
  igd: 2,
  pcp: true,
  natPmp: true,
  web: "sound",
  datagrams: "sound",
  delayMs: 0,
  room: 10_000,
  fullFault: 728,
  permanentOnly: false,
  secureMode: true,
  refusesRenewal: false,
  liesAboutConflicts: false,
  forgetsAtOnce: false,
  listsForever: false,
  absentFault: 0,
  cannotLookUp: false,
  faults: {},
  preferFailure: "ignored",
  hasSecondService: false,
  location: undefined,
  announcesBootId: true,
};
