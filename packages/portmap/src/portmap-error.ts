/**
 * Why a gateway did not do what it was asked for. `final`: asking the same again is of no use until somebody changes
 * something.
 */
export const PORTMAP_CODES = {
  conflict: { final: true, text: "the port belongs to another host of the network" },
  "other-port": { final: true, text: "the gateway offers another port only, and does not say why" },
  denied: { final: true, text: "the gateway does not allow it" },
  full: { final: false, text: "the gateway has no room for a further mapping" },
  timeout: { final: false, text: "the gateway did not answer in time" },
  unreachable: { final: false, text: "there is no gateway that maps ports" },
  unsupported: { final: true, text: "the gateway or its protocol cannot do this" },
  malformed: { final: false, text: "the gateway's answer makes no sense" },
  failed: { final: false, text: "the gateway met an error of its own" },
  invalid: { final: true, text: "the request itself is wrong" },
  aborted: { final: false, text: "the caller gave up" },
} as const satisfies Record<string, { final: boolean; text: string }>;

export type PortmapCode = keyof typeof PORTMAP_CODES;

export interface PortmapErrorOptions {
  cause?: unknown;
  /** The gateway's own number: a UPnP fault, or a result code of PCP or NAT-PMP. */
  gatewayCode?: number;
  /** With `conflict`: the inner address that holds the port. */
  holder?: string;
  /** Milliseconds for which the gateway says that it will not change its mind. */
  retryAfterMs?: number;
  /** The call had not begun to have an effect: the gateway is as it was. */
  untouched?: boolean;
}

/** The only error that this package's calls reject with. */
export class PortmapError extends Error {
  readonly code: PortmapCode;
  readonly gatewayCode: number | undefined;
  readonly holder: string | undefined;
  readonly retryAfterMs: number | undefined;
  readonly untouched: boolean;

  constructor(code: PortmapCode, message: string = PORTMAP_CODES[code].text, options: PortmapErrorOptions = {}) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.name = "PortmapError";
    this.code = code;
    this.gatewayCode = options.gatewayCode;
    this.holder = options.holder;
    this.retryAfterMs = options.retryAfterMs;
    this.untouched = options.untouched ?? false;
  }
}
