import { fingerprintOf, IsthmusError, type isbDaemon } from "@isthmus/protocol";
import { type Handlers, TokenBuckets } from "@isthmus/session";
import type { Directory } from "../directory/directory.ts";
import { includes } from "../directory/listing.ts";
import type { Watchers } from "../directory/watchers.ts";
import type { InviteTexts } from "../invite-texts.ts";
import type { Pairs } from "../meeting/pairs.ts";
import type { Subscription } from "../meeting/subscription.ts";
import type { Subscriptions } from "../meeting/subscriptions.ts";
import type { Negotiator } from "../negotiation/negotiator.ts";
import type { Profiles } from "../profiles/profiles.ts";
import { serviceId } from "../profiles/records.ts";
import { type Rates, rateOf } from "../settings.ts";
import type { ControlFrames } from "./control-frames.ts";
import type { DaemonSession, FindDaemon } from "./daemon-session.ts";
import type { Declarations } from "./declarations.ts";
import type { DeviceKeys } from "./device-keys.ts";
import type { PortProbes } from "./port-probes.ts";
import type { Presence } from "./presence.ts";
import type { Reachability } from "./reachability.ts";

export interface DaemonParts {
  profiles: Profiles;
  directory: Directory;
  watchers: Watchers;
  presence: Presence;
  declarations: Declarations;
  negotiator: Negotiator;
  subscriptions: Subscriptions;
  pairs: Pairs;
  reachability: Reachability;
  portProbes: PortProbes;
  deviceKeys: DeviceKeys;
  controlFrames: ControlFrames;
  inviteTexts: InviteTexts;
  daemons: FindDaemon;
  rates: Pick<Rates, "subscribes" | "invites">;
}

/** What a daemon may ask of the broker, and what is done. */
export function daemonHandlers(parts: DaemonParts): Handlers<(typeof isbDaemon)["toServer"], DaemonSession> {
  const subscribes = new TokenBuckets(rateOf(parts.rates.subscribes));
  const invites = new TokenBuckets(rateOf(parts.rates.invites));

  return {
    requests: {
      declare: async (session, declaration) => {
        const reply = await parts.declarations.take(session, declaration);
        // Its place may have been taken by another session of the same device.
        if (parts.daemons(session.key) === session) present(parts, session, declaration.legPort);
        return reply;
      },

      subscribe: (session, body, requestId) => {
        spend(subscribes, session.context.user);
        return parts.negotiator.subscribe(session, body, requestId);
      },

      unsubscribe: (session, { subscription: id }) => {
        parts.negotiator.cancel(session.key, "cancelled", id);
        const subscription = parts.subscriptions.get(id);
        if (subscription?.subscriber.key === session.key) parts.subscriptions.end(subscription, "closed", "provider");
        else if (subscription?.provider.key === session.key) {
          parts.subscriptions.end(subscription, "revoked", "subscriber");
        }
        return {};
      },

      allocate: async (session, { subscription: id, avoid }) => {
        const subscription = parts.subscriptions.of(session.key, id);
        const { pair } = subscription;
        const allocated = await parts.pairs.obtain(pair, { avoid, confirm: true });
        if (parts.subscriptions.get(id) !== subscription) throw new IsthmusError("no-such-subscription");
        const allocation = parts.pairs.offer(pair, session.key, allocated);
        if (!allocation) throw new IsthmusError("no-ist");
        parts.subscriptions.tell(subscription, subscription.provider.key === session.key ? "subscriber" : "provider");
        return { allocation };
      },

      renew: (session, { subscription: id }) => {
        const subscription = parts.subscriptions.of(session.key, id);
        const refusal = whyNotToRenew(parts, subscription);
        if (refusal) {
          parts.subscriptions.end(subscription, refusal.code, "both");
          throw refusal;
        }
        return { grant: parts.subscriptions.renew(subscription) };
      },

      list: (session, request) => parts.directory.page({ asker: session.context.user, ...request }),

      watch: (session) => {
        parts.watchers.add(session, session.context.user);
        return {};
      },

      unwatch: (session) => {
        parts.watchers.remove(session);
        return {};
      },

      invite: async (session, { lifetimeS }) => {
        spend(invites, session.context.user);
        const { text } = await parts.inviteTexts.create({
          role: "daemon",
          user: session.context.user,
          uses: 1,
          lifetimeS,
        });
        return { invite: text };
      },

      devices: (session) => ({
        devices: parts.deviceKeys.list(session.context.user).map(({ key, name, created, revoked }) => ({
          name,
          fingerprint: fingerprintOf(key),
          created,
          revoked: revoked !== undefined,
          present: parts.presence.isPresent(key),
          self: key === session.key,
        })),
      }),

      revoke: async (session, { fingerprint }) => {
        await parts.deviceKeys.revoke(parts.deviceKeys.find(session.context.user, fingerprint));
        return {};
      },

      rotate: async (session, { key, oldSignature, newSignature }) => {
        await parts.deviceKeys.rotate(session.key, key, oldSignature, newSignature);
        return {};
      },

      take: async (session, { name }) => {
        await parts.declarations.takeOver(session, name);
        return {};
      },

      probe: (session, body) => parts.portProbes.probe(session, body),
    },
    events: { probed: (session, { nonce }) => parts.reachability.probed(session, nonce) },
    binary: (session, bytes) => parts.controlFrames.receive(session, bytes),
  };
}

/** A device has declared itself: what waited for it can go on. */
function present(parts: DaemonParts, session: DaemonSession, legPort: number | undefined): void {
  const { key, boot, context } = session;
  const isFirst = !context.declared;
  context.declared = true;
  parts.presence.declared(key);
  if (isFirst) {
    parts.subscriptions.providerIsBack(key, boot);
    parts.subscriptions.subscriberIsBack(key);
    for (const { from } of parts.profiles.device(key)?.rotations ?? []) parts.subscriptions.providerHasNewKey(from);
  }
  parts.negotiator.providerIsPresent(parts.profiles.servicesOfDevice(key));
  void parts.reachability.look(session, legPort);
}

function whyNotToRenew({ directory }: DaemonParts, subscription: Subscription): IsthmusError | undefined {
  const { provider, subscriber, service } = subscription;
  const listing = directory.get(serviceId(provider.user, service));
  if (!listing) return new IsthmusError("unknown-service");
  if (listing.device !== provider.key) return new IsthmusError("replaced");
  return includes(listing, subscriber.user) ? undefined : new IsthmusError("revoked");
}

function spend(buckets: TokenBuckets, user: string): void {
  const waitMs = buckets.take(user, performance.now());
  if (waitMs > 0) throw new IsthmusError("rate-limited", undefined, { retryAfterMs: waitMs });
}
