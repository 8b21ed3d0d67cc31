import { z } from "zod";
import { allocationOffer } from "./allocation.ts";
import { base64urlUpTo } from "./bytes.ts";
import { opener, transport } from "./catalog.ts";
import { IsthmusError } from "./codes.ts";
import { code, explain } from "./envelope.ts";
import { subscriptionId } from "./isb-daemon.ts";
import { LIMITS } from "./limits.ts";
import { name } from "./names.ts";

/**
 * What two daemons say to each other, sealed inside control frames. All ids belong to the generation that the frame is
 * sealed under. They count up, their lowest bit is the Noise role of who chose them (0 initiator, 1 responder), and
 * none is ever used twice.
 */
export const openId = z.int().nonnegative().max(Number.MAX_SAFE_INTEGER);
export const flowId = z.int().nonnegative().max(0xffff_ffff);
export const attempt = z.int().min(0).max(255);

/** Where the two legs of an open meet. */
export const rendezvous = z.discriminatedUnion("at", [
  z.object({ at: z.literal("stream"), allocation: allocationOffer.shape.allocation }),
  z.object({ at: z.literal("direct") }),
  z.object({
    at: z.literal("cell"),
    allocation: allocationOffer.shape.allocation,
    cell: z
      .int()
      .min(0)
      .max(LIMITS.cellsPerAllocation - 1),
    mode: z.enum(["passive", "pure"]),
  }),
]);
export type Rendezvous = z.infer<typeof rendezvous>;

export const linkControl = {
  /**
   * Opens one TCP stream of a channel, or (proto udp) one UDP path of the link; the sender dials its own leg at the same
   * moment. A repeat with a higher attempt replaces an unjoined one.
   */
  open: z.object({
    id: openId,
    attempt,
    proto: transport,
    rendezvous,
    subscription: subscriptionId.optional().meta({ description: "absent for a UDP path, which serves the whole link" }),
    channel: name.optional(),
    opener: opener.optional().meta({ description: "the direction: which side of the subscription opens the channel" }),
    plain: z.boolean().default(false),
  }),
  /** The open cannot be: said at once, the opener resets its application. */
  refused: z.object({ id: openId, attempt, code }),
  /** The opener gave up, or its application is gone before the legs met. */
  cancel: z.object({ id: openId, attempt }),
  /** Says what a UDP flow id stands for; repeated until it is answered. Its datagrams may arrive before. */
  flow: z.object({ flow: flowId, subscription: subscriptionId, channel: name, opener }),
  /** The flow id is understood. */
  flowOk: z.object({ flow: flowId }),
  /** Datagrams of this flow id are dropped. */
  flowRefused: z.object({ flow: flowId, code }),
  /** The flow id is used no more. */
  flowEnd: z.object({ flow: flowId }),
  /** From the Noise responder, who has datagrams to send and no path: the initiator opens one. */
  udpWanted: z.object({}),
  /** New keys without the ISB, every 12 h: the two messages of a further Noise IX handshake. */
  rekey: z.object({ handshake: base64urlUpTo(LIMITS.handshakeBytes) }),
  /** The second one. */
  rekeyed: z.object({ handshake: base64urlUpTo(LIMITS.handshakeBytes) }),
  /** Whether this way to the peer lives; answered by `pong` with the same number. */
  ping: z.object({ n: z.int().nonnegative() }),
  pong: z.object({ n: z.int().nonnegative() }),
} as const;

export type LinkControlName = keyof typeof linkControl;
export type LinkControlBody<N extends LinkControlName> = z.infer<(typeof linkControl)[N]>;
export type LinkControlMessage = {
  [N in LinkControlName]: LinkControlBody<N> extends Record<string, never> ? { t: N } : { t: N } & LinkControlBody<N>;
}[LinkControlName];

const outer = z.looseObject({ t: z.string().max(64) });

export function encodeLinkControl(message: LinkControlMessage): Buffer {
  const bytes = Buffer.from(JSON.stringify(message));
  if (bytes.length > LIMITS.controlPlaintextBytes) throw new IsthmusError("too-large");
  return bytes;
}

/**
 * `undefined` for a message type that this build does not know: it is counted and dropped.
 * @throws IsthmusError `bad-message`
 */
export function decodeLinkControl(plaintext: Uint8Array): LinkControlMessage | undefined {
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(plaintext.buffer, plaintext.byteOffset, plaintext.byteLength).toString("utf8"));
  } catch (cause) {
    throw new IsthmusError("bad-message", "the control message is not JSON", { cause });
  }
  const head = outer.safeParse(json);
  if (!head.success) throw new IsthmusError("bad-message", `control message: ${explain(head.error)}`);
  const { t } = head.data;
  if (!Object.hasOwn(linkControl, t)) return undefined;
  const body = linkControl[t as LinkControlName].safeParse(json);
  if (!body.success) throw new IsthmusError("bad-message", `control message ${t}: ${explain(body.error)}`);
  return { t, ...body.data } as LinkControlMessage;
}
