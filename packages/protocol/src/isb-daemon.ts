import { z } from "zod";
import { hostPort, ipAddress, port } from "./address.ts";
import { allocationOffer } from "./allocation.ts";
import { base64url, base64urlUpTo, ed25519PublicKey, ed25519Signature, fingerprint, hexId } from "./bytes.ts";
import { channel, directoryEntry, serviceSpec, transport } from "./catalog.ts";
import { code, requestId, type SessionInterface } from "./envelope.ts";
import { grantText } from "./grant.ts";
import { LIMITS } from "./limits.ts";
import { lengthPrefixed } from "./login.ts";
import { name } from "./names.ts";

/** Chosen by the subscriber's daemon; stays the same over restarts of daemon and ISB. */
export const subscriptionId = base64url(16).meta({ description: "subscription: 16 random bytes" });

const handshake = base64urlUpTo(LIMITS.handshakeBytes).meta({ description: "Noise IX message" });

/** One step of a device from an older key to a newer one, signed by the older one ({@link rotationTranscript}). */
export const keyRotation = z.object({ from: ed25519PublicKey, to: ed25519PublicKey, signature: ed25519Signature });
export type KeyRotation = z.infer<typeof keyRotation>;

const peer = z
  .object({
    user: name,
    key: ed25519PublicKey,
    rotations: z.array(keyRotation).max(8).default([]).meta({
      description: "lead from older keys to `key`: who pinned one of them can follow without trusting the ISB",
    }),
  })
  .meta({ description: "the other daemon" });

/**
 * What the old key signs when a device changes to a new one, and the new key to show that it is held: these fields, each
 * behind its length (16 bits, big endian).
 *
 *     isthmus-rotate-1   text
 *     old key            32 bytes
 *     new key            32 bytes
 */
export function rotationTranscript(oldKey: string, newKey: string): Buffer {
  return lengthPrefixed(["isthmus-rotate-1", Buffer.from(oldKey, "base64url"), Buffer.from(newKey, "base64url")]);
}

const direct = z
  .object({
    dialler: z.enum(["subscriber", "provider"]),
    addresses: z.array(hostPort).min(1).max(8).meta({ description: "leg ports of the other one" }),
  })
  .meta({ description: "one of the two can be reached: who dials whom, where" });

/** Where the two daemons may meet; at least one of the two is there. */
const meeting = z.object({ direct: direct.optional(), allocation: allocationOffer.optional() });

/** A live subscription as its subscriber holds it; the ISB recognises its own signature and asks nobody. */
const heldSubscription = z.object({
  subscription: subscriptionId,
  grant: grantText,
  allocation: z.object({ ist: ed25519PublicKey, id: hexId }).optional().meta({ description: "where it lives" }),
});

/** Which port is to be looked at, from outside. */
export const probeRequest = z.object({
  proto: transport.default("tcp"),
  port,
  address: ipAddress
    .optional()
    .meta({ description: "where the port is thought to be; seen at another address, nothing is dialled" }),
});
export type ProbeRequest = z.infer<typeof probeRequest>;

/** What the ISB has found. */
export const probeReport = z.object({
  address: ipAddress.meta({ description: "where the ISB sees the daemon: the only address that it dials" }),
  outcome: z.enum(["reachable", "refused", "timeout", "unreachable", "other-address", "unprovable"]).meta({
    description:
      "refused: something there turns connections away; timeout: nothing answers; unreachable: the network has no way there; other-address: not dialled, since the daemon is seen elsewhere; unprovable: not tried, since nobody answers datagrams",
  }),
});
export type ProbeReport = z.infer<typeof probeReport>;

const outcome = z.object({
  code: code.optional().meta({ description: "why it is refused; none where it is accepted" }),
  message: z.string().optional(),
});
const empty = z.object({});

/**
 * Daemon (client) at ISB (server). Binary frames of this session are control frames of a link behind the 32 bytes of the
 * other device's key; the ISB passes them on unread, while no better way is up.
 */
export const isbDaemon = {
  toServer: {
    requests: {
      /** The whole desired state: what is not named is withdrawn. Sent at each login and whenever it changes. */
      declare: {
        request: z.object({
          services: z.array(serviceSpec).max(LIMITS.servicesPerDevice),
          subscriptions: z.array(heldSubscription).max(LIMITS.subscriptionsPerDevice),
          legPort: port.optional().meta({ description: "where the daemon takes direct legs; the ISB dials it back" }),
        }),
        reply: z.object({
          services: z.array(outcome.extend({ name })),
          subscriptions: z.array(outcome.extend({ subscription: subscriptionId })),
        }),
      },
      /** Asks for a service. The request's id is mixed into the handshake's prologue. */
      subscribe: {
        request: z.object({
          subscription: subscriptionId,
          service: name,
          user: name,
          handshake,
          plain: z.boolean().default(false).meta({ description: "consents to unencrypted data" }),
          waitMs: z
            .int()
            .min(0)
            .max(3_600_000)
            .default(0)
            .meta({ description: "how long to wait for an absent provider" }),
        }),
        reply: meeting.extend({
          peer,
          grant: grantText,
          handshake,
          channels: z
            .array(channel)
            .max(LIMITS.channelsPerService)
            .meta({ description: "of the service, as declared" }),
        }),
      },
      /** Ends a subscription on both sides. */
      unsubscribe: { request: z.object({ subscription: subscriptionId }), reply: empty },
      /** Asks for an allocation where there was none (a direct dial failed), or for one elsewhere (the IST is away). */
      allocate: {
        request: z.object({
          subscription: subscriptionId,
          avoid: z
            .array(ed25519PublicKey)
            .max(16)
            .default([])
            .meta({ description: "ISTs that this side cannot reach" }),
        }),
        reply: z.object({ allocation: allocationOffer }),
      },
      /** A new grant before the old one expires. */
      renew: { request: z.object({ subscription: subscriptionId }), reply: z.object({ grant: grantText }) },
      /** One page of the services that this user may use. */
      list: {
        request: z.object({
          user: name.optional(),
          service: name.optional(),
          away: z.boolean().default(false).meta({ description: "also services whose provider is not logged in" }),
          cursor: z.string().max(200).optional().meta({ description: "of the page before" }),
          limit: z
            .int()
            .min(1)
            .max(LIMITS.directoryPage)
            .default(LIMITS.directoryPage)
            .meta({ description: "entries at most" }),
        }),
        reply: z.object({
          entries: z.array(directoryEntry),
          cursor: z.string().optional().meta({ description: "there is more: ask again with it" }),
        }),
      },
      /** From now on `directory` events; the first one is a snapshot. */
      watch: { request: empty, reply: empty },
      /** No further `directory` events. */
      unwatch: { request: empty, reply: empty },
      /** An invite for a further device of the same user. */
      invite: {
        request: z.object({
          lifetimeS: z
            .int()
            .min(60)
            .max(30 * 86_400)
            .default(86_400),
        }),
        reply: z.object({ invite: z.string() }),
      },
      /** All devices of the user. */
      devices: {
        request: empty,
        reply: z.object({
          devices: z.array(
            z.object({
              name,
              fingerprint,
              created: z.string(),
              revoked: z.boolean(),
              present: z.boolean(),
              self: z.boolean(),
            }),
          ),
        }),
      },
      /** Revokes one of the user's own devices; its session ends and its grants are withdrawn. */
      revoke: { request: z.object({ fingerprint }), reply: empty },
      /** The old key signs the new one ({@link rotationTranscript}); the device goes on under the new key. */
      rotate: {
        request: z.object({ key: ed25519PublicKey, oldSignature: ed25519Signature, newSignature: ed25519Signature }),
        reply: empty,
      },
      /** Takes over a service name that another device of the same user owns. */
      take: { request: z.object({ name }), reply: empty },
      /**
       * Whether a TCP port of the daemon's own address, as the ISB sees it, takes connections. The ISB makes one and
       * ends it at once: it sends nothing, reads nothing, and dials no other address. Ports below 1024, but for 443, are
       * refused with `bad-request`.
       */
      probe: { request: probeRequest, reply: probeReport },
    },
    events: {
      /** The nonce that arrived at the leg port: proof that the ISB's dial reached this daemon. */
      probed: z.object({ nonce: base64url(16) }),
    },
  },
  toClient: {
    requests: {
      /** To the provider: somebody wants to use a service. */
      ask: {
        request: z.object({
          negotiation: requestId.meta({ description: "id of the subscriber's request: part of the prologue" }),
          subscription: subscriptionId,
          service: name,
          subscriber: peer,
          handshake,
          plain: z.boolean(),
        }),
        reply: z.object({ handshake }),
      },
    },
    events: {
      /** To the provider after an accept, and to both when the meeting place of a subscription changes. */
      told: meeting.extend({
        subscription: subscriptionId,
        service: name,
        user: name.meta({ description: "the provider's user" }),
        peer,
        grant: grantText,
      }),
      /**
       * To the subscriber: the provider's process is another one than at the negotiation (its boot id changed), so that
       * link keys and grants there are gone. The subscriber subscribes again under the same id.
       */
      renegotiate: z.object({ subscription: subscriptionId }),
      /** The subscription is over on the other side or by an operator. */
      ended: z.object({ subscription: subscriptionId, code }),
      /** What is new in the directory, some changes together. */
      directory: z.object({
        snapshot: z.boolean().meta({ description: "a snapshot of all there is begins: what was told before is void" }),
        more: z
          .boolean()
          .optional()
          .meta({ description: "the snapshot goes on with the next event; what it has not named by its end is gone" }),
        entries: z.array(directoryEntry),
        gone: z.array(z.object({ service: name, user: name })).meta({ description: "services that are no more" }),
      }),
      /** The result of dialling the leg port back. */
      reachability: z.object({ reachable: z.boolean(), address: hostPort.optional(), code: code.optional() }),
    },
  },
} as const satisfies SessionInterface;
