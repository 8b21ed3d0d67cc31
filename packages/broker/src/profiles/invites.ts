import { randomBytes } from "node:crypto";
import { IsthmusError } from "@isthmus/protocol";
import type { Logger } from "@isthmus/service";
import { type Store, scanAll, update } from "@isthmus/store";
import { type InviteRecord, inviteId, inviteRecord, PREFIX } from "./records.ts";

export interface NewInvite {
  role: "daemon" | "ist";
  user?: string;
  uses: number;
  lifetimeS: number;
}

/** The rights to register keys. They are read from the store whenever one is used: no node may count on its own. */
export class Invites {
  readonly #store: Store;
  readonly #logger: Logger;

  constructor(options: { store: Store; logger: Logger }) {
    this.#store = options.store;
    this.#logger = options.logger;
  }

  /** @returns the token, which is nowhere else. @throws IsthmusError `store-unavailable` */
  async create(invite: NewInvite): Promise<{ id: string; token: string; record: InviteRecord }> {
    const token = randomBytes(16).toString("base64url");
    const id = inviteId(token);
    const now = Date.now();
    const record: InviteRecord = {
      role: invite.role,
      ...(invite.user === undefined ? {} : { user: invite.user }),
      uses: invite.uses,
      usedBy: [],
      created: new Date(now).toISOString(),
      expires: new Date(now + invite.lifetimeS * 1000).toISOString(),
    };
    await this.#store.compareAndSet(PREFIX.invite + id, 0, record);
    return { id, token, record };
  }

  /** What a token would give, without using it. @throws IsthmusError `invite-invalid`, `store-unavailable` */
  async look(token: string, role: InviteRecord["role"], key: string): Promise<InviteRecord> {
    const entry = await this.#store.get(PREFIX.invite + inviteId(token));
    return checked(entry?.value, role, key);
  }

  /**
   * Uses an invite for a key. The same key may come again: its login may have been cut off.
   * @throws IsthmusError `invite-invalid`, `store-unavailable`
   */
  async redeem(token: string, role: InviteRecord["role"], key: string): Promise<void> {
    await update(this.#store, PREFIX.invite + inviteId(token), (value) => {
      const record = checked(value, role, key);
      return record.usedBy.includes(key) ? record : { ...record, usedBy: [...record.usedBy, key] };
    });
  }

  async list(): Promise<({ id: string } & InviteRecord)[]> {
    const invites: ({ id: string } & InviteRecord)[] = [];
    for await (const { key, value } of scanAll(this.#store, PREFIX.invite)) {
      const parsed = inviteRecord.safeParse(value);
      if (parsed.success) invites.push({ id: key.slice(PREFIX.invite.length), ...parsed.data });
    }
    return invites;
  }

  /** @returns whether there was one. @throws IsthmusError `store-unavailable`, `conflict` */
  async revoke(id: string): Promise<boolean> {
    const entry = await this.#store.get(PREFIX.invite + id);
    if (entry) await this.#store.compareAndSet(PREFIX.invite + id, entry.version, undefined);
    return entry !== undefined;
  }

  /** @throws IsthmusError `store-unavailable`, `conflict` */
  async revokeAllOf(user: string): Promise<void> {
    for (const invite of await this.list()) {
      if (invite.user === user) await this.revoke(invite.id);
    }
  }

  /** Deletes what can no longer be used. Another node may be at it too: whoever comes second finds nothing. */
  async sweep(): Promise<void> {
    try {
      for (const invite of await this.list()) {
        if (hasExpired(invite)) await this.revoke(invite.id);
      }
    } catch (err) {
      this.#logger.debug({ err }, "expired invites were not deleted this time");
    }
  }
}

function checked(value: unknown, role: InviteRecord["role"], key: string): InviteRecord {
  const parsed = inviteRecord.safeParse(value);
  if (!parsed.success) throw new IsthmusError("invite-invalid", "the invite is unknown");
  const record = parsed.data;
  if (record.role !== role) throw new IsthmusError("invite-invalid", `the invite is for an ${record.role}`);
  if (hasExpired(record)) throw new IsthmusError("invite-invalid", "the invite has expired");
  if (record.usedBy.length >= record.uses && !record.usedBy.includes(key)) {
    throw new IsthmusError("invite-invalid", "the invite is used up");
  }
  return record;
}

function hasExpired(record: InviteRecord): boolean {
  return Date.parse(record.expires) <= Date.now();
}
