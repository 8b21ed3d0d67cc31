import { fingerprintOf, IsthmusError } from "@isthmus/protocol";
import type { Logger } from "@isthmus/service";
import type { LoginAttempt } from "@isthmus/session";
import { type Store, update } from "@isthmus/store";
import type { Invites } from "./invites.ts";
import type { Profiles } from "./profiles.ts";
import { type DeviceRecord, type IstRecord, nameRecord, PREFIX } from "./records.ts";

const LONGEST_NAME = 63;

/**
 * Makes a device or an IST out of a key and an invite. Every step may be repeated, so that a login that was cut off
 * in the middle completes at the next attempt with the same key.
 */
export class Registration {
  readonly #store: Store;
  readonly #profiles: Profiles;
  readonly #invites: Invites;
  readonly #devicesPerUser: number;
  readonly #logger: Logger;

  constructor(options: {
    store: Store;
    profiles: Profiles;
    invites: Invites;
    devicesPerUser: number;
    logger: Logger;
  }) {
    this.#store = options.store;
    this.#profiles = options.profiles;
    this.#invites = options.invites;
    this.#devicesPerUser = options.devicesPerUser;
    this.#logger = options.logger;
  }

  /** @throws IsthmusError `invite-invalid`, `user-disabled`, `too-many`, `store-unavailable` */
  async device(attempt: LoginAttempt, token: string): Promise<DeviceRecord> {
    const { key } = attempt;
    const { user } = await this.#invites.look(token, "daemon", key);
    if (user === undefined) throw new IsthmusError("invite-invalid", "the invite names no user");
    // Before a use is spent.
    if (this.#profiles.user(user)?.disabled) throw new IsthmusError("user-disabled");
    if (this.#profiles.deviceCount(user) >= this.#devicesPerUser) {
      throw new IsthmusError("too-many", `a user has at most ${this.#devicesPerUser} devices`);
    }
    await this.#invites.redeem(token, "daemon", key);
    const created = new Date().toISOString();
    await this.#profiles.put("user", user, (before) => before ?? { name: user, created, disabled: false });
    const wanted = attempt.device ?? `device-${fingerprintOf(key).slice(0, 6)}`;
    const name = await this.#claim(`${PREFIX.deviceName}${user}/`, wanted, key);
    const device = await this.#profiles.put(
      "device",
      key,
      (before) => before ?? { user, name, created, rotations: [] },
    );
    // Somebody may have deleted the user meanwhile; the device must not come to life with a later user of that name.
    if ((await this.#profiles.fetch("user", user)) === undefined) {
      await this.#profiles.remove("device", key, () => true);
      throw new IsthmusError("invite-invalid", "the user was deleted");
    }
    this.#logger.info({ user, device: name, fingerprint: fingerprintOf(key) }, "a device was registered");
    return device;
  }

  /** @throws IsthmusError `invite-invalid`, `store-unavailable` */
  async ist(attempt: LoginAttempt, token: string): Promise<IstRecord> {
    const { key } = attempt;
    await this.#invites.redeem(token, "ist", key);
    const wanted = attempt.device ?? `ist-${fingerprintOf(key).slice(0, 6)}`;
    const name = await this.#claim(PREFIX.istName, wanted, key);
    const created = new Date().toISOString();
    const ist = await this.#profiles.put("ist", key, (before) => before ?? { name, created, disabled: false });
    this.#logger.info({ ist: name, fingerprint: fingerprintOf(key) }, "an IST was registered");
    return ist;
  }

  /** The wanted name, or with a number behind it where another key bears it already: an invite needs no second try. */
  async #claim(prefix: string, wanted: string, key: string): Promise<string> {
    for (let number = 1; ; number++) {
      const name = numbered(wanted, number);
      const entry = await update(this.#store, prefix + name, (value) => value ?? { key });
      if (nameRecord.parse(entry!.value).key === key) return name;
    }
  }
}

function numbered(name: string, number: number): string {
  if (number === 1) return name;
  const suffix = `-${number}`;
  // What is left of a cut name may end in a dot or a dash, where no letter or digit may miss.
  return name.slice(0, LONGEST_NAME - suffix.length).replace(/[._-]+$/, "") + suffix;
}
