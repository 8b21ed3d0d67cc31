import { fingerprintOf, IsthmusError } from "@isthmus/protocol";
import type { SessionServer } from "@isthmus/session";
import { type Store, scanAll } from "@isthmus/store";
import type { DaemonContext, DaemonProtocol } from "./daemon/daemon-session.ts";
import type { DeviceKeys } from "./daemon/device-keys.ts";
import type { Presence } from "./daemon/presence.ts";
import type { Directory } from "./directory/directory.ts";
import { directoryEntryOf } from "./directory/listing.ts";
import type { InviteTexts } from "./invite-texts.ts";
import type { IstRegistry } from "./ist/registry.ts";
import type { Subscriptions } from "./meeting/subscriptions.ts";
import type { Invites, NewInvite } from "./profiles/invites.ts";
import type { Profiles } from "./profiles/profiles.ts";
import { PREFIX, serviceId } from "./profiles/records.ts";

export interface OperationsParts {
  store: Store;
  profiles: Profiles;
  invites: Invites;
  inviteTexts: InviteTexts;
  deviceKeys: DeviceKeys;
  directory: Directory;
  presence: Presence;
  subscriptions: Subscriptions;
  ists: IstRegistry;
  daemons: SessionServer<DaemonProtocol, DaemonContext>;
}

/** One page of a list in the order of its ids, and where the next one begins. */
interface Page<T> {
  items: T[];
  cursor?: string;
}

/** What the operator of an ISB may do and see; the admin API in plain words. */
export class Operations {
  readonly #parts: OperationsParts;

  constructor(parts: OperationsParts) {
    this.#parts = parts;
  }

  users(cursor: string, limit: number) {
    return pageOf(this.#parts.profiles.users(), cursor, limit, (name) => this.user(name));
  }

  /** @throws IsthmusError `unknown-user` */
  user(name: string) {
    const { profiles, deviceKeys, presence } = this.#parts;
    const user = profiles.user(name);
    if (!user) throw new IsthmusError("unknown-user");
    const devices = deviceKeys.list(name);
    return {
      ...user,
      devices: devices.length,
      present: devices.filter(({ key }) => presence.isPresent(key)).length,
      services: profiles.servicesOfUser(name).size,
    };
  }

  /** @throws IsthmusError `unknown-user`, `store-unavailable` */
  async setUserDisabled(name: string, disabled: boolean): Promise<void> {
    await this.#parts.profiles.put("user", name, (user) => {
      if (!user) throw new IsthmusError("unknown-user");
      return { ...user, disabled };
    });
  }

  /**
   * Deletes a user with everything that is the user's. The user itself goes last, disabled, so that an attempt that
   * failed in the middle can be repeated.
   * @throws IsthmusError `unknown-user`, `store-unavailable`
   */
  async deleteUser(name: string): Promise<void> {
    const { store, profiles, invites } = this.#parts;
    await this.setUserDisabled(name, true);
    await invites.revokeAllOf(name);
    for (const id of [...profiles.servicesOfUser(name)]) await profiles.remove("service", id, () => true);
    for (const key of [...profiles.devicesOf(name)]) await profiles.remove("device", key, () => true);
    for await (const { key, version } of scanAll(store, `${PREFIX.deviceName}${name}/`)) {
      await store.compareAndSet(key, version, undefined);
    }
    await profiles.remove("user", name, () => true);
  }

  /** @throws IsthmusError `user-disabled`, `store-unavailable` */
  createInvite(invite: NewInvite): Promise<{ id: string; text: string; expires: string }> {
    const { profiles, inviteTexts } = this.#parts;
    if (invite.user !== undefined && profiles.user(invite.user)?.disabled) throw new IsthmusError("user-disabled");
    return inviteTexts.create(invite);
  }

  async invites() {
    const invites = await this.#parts.invites.list();
    return invites.map(({ usedBy, ...invite }) => ({ ...invite, used: usedBy.length }));
  }

  /** @throws IsthmusError `invite-invalid`, `store-unavailable` */
  async revokeInvite(id: string): Promise<void> {
    if (!(await this.#parts.invites.revoke(id))) throw new IsthmusError("invite-invalid", "there is no such invite");
  }

  /** @throws IsthmusError `unknown-user` */
  devices(user: string) {
    const { profiles, deviceKeys, presence } = this.#parts;
    if (!profiles.user(user)) throw new IsthmusError("unknown-user");
    return deviceKeys.list(user).map(({ key, name, created, revoked }) => ({
      name,
      fingerprint: fingerprintOf(key),
      created,
      ...(revoked === undefined ? {} : { revoked }),
      present: presence.isPresent(key),
    }));
  }

  /** @throws IsthmusError `unknown-device`, `store-unavailable` */
  async revokeDevice(user: string, fingerprint: string): Promise<void> {
    const { deviceKeys } = this.#parts;
    await deviceKeys.revoke(deviceKeys.find(user, fingerprint));
  }

  services(cursor: string, limit: number) {
    const { directory } = this.#parts;
    return pageOf(directory.ids(), cursor, limit, (id) => {
      const listing = directory.get(id)!;
      return { ...directoryEntryOf(listing), plain: listing.spec.plain, allow: listing.allow };
    });
  }

  /** @throws IsthmusError `unknown-service`, `store-unavailable` */
  async removeService(user: string, service: string): Promise<void> {
    const isRemoved = await this.#parts.profiles.remove("service", serviceId(user, service), () => true);
    if (!isRemoved) throw new IsthmusError("unknown-service");
  }

  ists() {
    const { profiles, ists } = this.#parts;
    return [...profiles.ists()].map((key) => {
      const { name, created, disabled } = profiles.ist(key)!;
      const load = ists.describe(key);
      return { name, fingerprint: fingerprintOf(key), created, disabled, ...(load ? { load } : {}) };
    });
  }

  /** @throws IsthmusError `unknown-device`, `store-unavailable` */
  async setIstDisabled(fingerprint: string, disabled: boolean): Promise<void> {
    const { profiles } = this.#parts;
    const key = [...profiles.ists()].find((candidate) => fingerprintOf(candidate) === fingerprint);
    if (key === undefined) throw new IsthmusError("unknown-device", "there is no such IST");
    await profiles.put("ist", key, (ist) => {
      if (!ist) throw new IsthmusError("unknown-device", "there is no such IST");
      return { ...ist, disabled };
    });
  }

  get sessionCount(): number {
    return this.#parts.daemons.size;
  }

  /** Daemons that are logged in, in the order of their keys. */
  sessions(cursor: string, limit: number) {
    const { daemons, profiles, subscriptions } = this.#parts;
    const keys = [...daemons.all()].map(({ key }) => key);
    return pageOf(keys, cursor, limit, (key) => {
      const { address, context } = daemons.get(key)!;
      return {
        user: context.user,
        device: profiles.device(key)?.name ?? "",
        fingerprint: fingerprintOf(key),
        address,
        declared: context.declared,
        ...(context.reachable === undefined ? {} : { reachable: context.reachable }),
        subscriptions: subscriptions.ofSubscriber(key).size,
      };
    });
  }

  get subscriptionCount(): number {
    return this.#parts.subscriptions.size;
  }

  subscriptions(cursor: string, limit: number) {
    const { subscriptions } = this.#parts;
    const ids = [...subscriptions.all()].map(({ id }) => id);
    return pageOf(ids, cursor, limit, (id) => {
      const { service, provider, subscriber, direct, pair, expiresS } = subscriptions.get(id)!;
      return {
        id,
        service,
        provider: { user: provider.user, fingerprint: fingerprintOf(provider.key) },
        subscriber: { user: subscriber.user, fingerprint: fingerprintOf(subscriber.key) },
        direct: direct !== undefined,
        ...(pair.current ? { allocation: pair.current.allocation } : {}),
        grantExpires: new Date(expiresS * 1000).toISOString(),
      };
    });
  }
}

/** Sorted at each call: an operator who pages through a list is rare, and every other reader wants no order. */
function pageOf<T>(ids: Iterable<string>, cursor: string, limit: number, show: (id: string) => T): Page<T> {
  const behind = [...ids].filter((id) => id > cursor).sort();
  const items = behind.slice(0, limit).map(show);
  return behind.length > limit ? { items, cursor: behind[limit - 1]! } : { items };
}
