import { IsthmusError } from "@isthmus/protocol";
import type { Logger } from "@isthmus/service";
import { type Store, update } from "@isthmus/store";
import type { z } from "zod";
import { Groups } from "../groups.ts";
import { Mirror } from "./mirror.ts";
import {
  type DeviceRecord,
  deviceRecord,
  type IstRecord,
  istRecord,
  PREFIX,
  serviceRecord,
  type UserRecord,
  userRecord,
} from "./records.ts";

/** Told of each change, by whichever node, in the turn in which it is seen. Undefined: there is no such record. */
export interface ProfileListener {
  userChanged(name: string, after: UserRecord | undefined): void;
  deviceChanged(key: string, after: DeviceRecord | undefined): void;
  serviceChanged(id: string): void;
  istChanged(key: string, after: IstRecord | undefined): void;
}

const SCHEMAS = { user: userRecord, device: deviceRecord, service: serviceRecord, ist: istRecord };
type Kind = keyof typeof SCHEMAS;
type RecordOf<K extends Kind> = z.infer<(typeof SCHEMAS)[K]>;

/** Writers that met on one record try again this often. */
const REMOVE_ATTEMPTS = 10;

/** Users, devices, services and ISTs: read from memory, written to the store first. */
export class Profiles {
  readonly #store: Store;
  readonly #users: Mirror<typeof userRecord>;
  readonly #devices: Mirror<typeof deviceRecord>;
  readonly #services: Mirror<typeof serviceRecord>;
  readonly #ists: Mirror<typeof istRecord>;
  readonly #devicesByUser = new Groups<string>();
  readonly #servicesByDevice = new Groups<string>();
  readonly #servicesByUser = new Groups<string>();

  constructor(options: { store: Store; listener: ProfileListener; logger: Logger }) {
    const { store, listener, logger } = options;
    this.#store = store;
    this.#users = new Mirror({
      store,
      prefix: PREFIX.user,
      schema: userRecord,
      changed: (name, after) => listener.userChanged(name, after),
      logger,
    });
    this.#devices = new Mirror({
      store,
      prefix: PREFIX.device,
      schema: deviceRecord,
      changed: (key, after, before) => {
        move(this.#devicesByUser, key, before?.user, after?.user);
        listener.deviceChanged(key, after);
      },
      logger,
    });
    this.#services = new Mirror({
      store,
      prefix: PREFIX.service,
      schema: serviceRecord,
      changed: (id, after, before) => {
        const user = userOfService(id);
        move(this.#servicesByDevice, id, before?.device, after?.device);
        move(this.#servicesByUser, id, before && user, after && user);
        listener.serviceChanged(id);
      },
      logger,
    });
    this.#ists = new Mirror({
      store,
      prefix: PREFIX.ist,
      schema: istRecord,
      changed: (key, after) => listener.istChanged(key, after),
      logger,
    });
  }

  /** @throws IsthmusError `store-unavailable` */
  async open(): Promise<void> {
    // Users and devices first: whether a service is shown depends on them.
    for (const mirror of [this.#users, this.#devices, this.#services, this.#ists]) await mirror.open();
  }

  close(): void {
    for (const mirror of [this.#users, this.#devices, this.#services, this.#ists]) mirror.close();
  }

  user(name: string): UserRecord | undefined {
    return this.#users.get(name);
  }

  device(key: string): DeviceRecord | undefined {
    return this.#devices.get(key);
  }

  service(id: string): RecordOf<"service"> | undefined {
    return this.#services.get(id);
  }

  ist(key: string): IstRecord | undefined {
    return this.#ists.get(key);
  }

  users(): Iterable<string> {
    return this.#users.ids();
  }

  services(): Iterable<string> {
    return this.#services.ids();
  }

  ists(): Iterable<string> {
    return this.#ists.ids();
  }

  /** Keys of all devices of a user, revoked and replaced ones too. */
  devicesOf(user: string): ReadonlySet<string> {
    return this.#devicesByUser.of(user);
  }

  /** Devices of a user, revoked ones too; one that changed its key is one. */
  deviceCount(user: string): number {
    let count = 0;
    for (const key of this.devicesOf(user)) if (this.device(key)!.replacedBy === undefined) count++;
    return count;
  }

  /** Ids of the services whose name a device owns. */
  servicesOfDevice(key: string): ReadonlySet<string> {
    return this.#servicesByDevice.of(key);
  }

  servicesOfUser(user: string): ReadonlySet<string> {
    return this.#servicesByUser.of(user);
  }

  /** Whether a device may act: it is known, not revoked, and so is its user. */
  isActive(key: string): boolean {
    const device = this.device(key);
    return device !== undefined && device.revoked === undefined && this.user(device.user)?.disabled === false;
  }

  /** Asks the store itself, for what another node may have written a moment ago. @throws IsthmusError `store-unavailable` */
  async fetch<K extends Kind>(kind: K, id: string): Promise<RecordOf<K> | undefined> {
    const entry = await this.#store.get(PREFIX[kind] + id);
    if (!entry) return undefined;
    this.#mirror(kind).apply(id, entry.value, entry.version);
    return this.#mirror(kind).get(id) as RecordOf<K> | undefined;
  }

  /**
   * Writes what `change` makes of a record, and shows it at once.
   * @param change refuses by throwing; may be called several times
   * @throws IsthmusError `store-unavailable`, `conflict`
   */
  async put<K extends Kind>(
    kind: K,
    id: string,
    change: (before: RecordOf<K> | undefined) => RecordOf<K>,
  ): Promise<RecordOf<K>> {
    const schema = SCHEMAS[kind];
    const entry = await update(this.#store, PREFIX[kind] + id, (value) =>
      change(value === undefined ? undefined : (schema.parse(value) as RecordOf<K>)),
    );
    this.#mirror(kind).apply(id, entry!.value, entry!.version);
    return entry!.value as RecordOf<K>;
  }

  /**
   * Deletes a record if it exists and `condition` holds of it.
   * @throws IsthmusError `store-unavailable`, `conflict`
   */
  async remove<K extends Kind>(kind: K, id: string, condition: (record: RecordOf<K>) => boolean): Promise<boolean> {
    const key = PREFIX[kind] + id;
    for (let attempt = 1; ; attempt++) {
      const entry = await this.#store.get(key);
      if (!entry || !condition(SCHEMAS[kind].parse(entry.value) as RecordOf<K>)) return false;
      try {
        const version = await this.#store.compareAndSet(key, entry.version, undefined);
        this.#mirror(kind).apply(id, undefined, version);
        return true;
      } catch (error) {
        if (!(error instanceof IsthmusError) || error.code !== "conflict" || attempt === REMOVE_ATTEMPTS) throw error;
      }
    }
  }

  #mirror(kind: Kind): Mirror<z.ZodType> {
    const mirrors = { user: this.#users, device: this.#devices, service: this.#services, ist: this.#ists };
    return mirrors[kind] as unknown as Mirror<z.ZodType>;
  }
}

/** A user's name has no slash in it. */
export function userOfService(id: string): string {
  return id.slice(0, id.indexOf("/"));
}

function move(groups: Groups<string>, id: string, from: string | undefined, to: string | undefined): void {
  if (from === to) return;
  if (from !== undefined) groups.remove(from, id);
  if (to !== undefined) groups.add(to, id);
}
