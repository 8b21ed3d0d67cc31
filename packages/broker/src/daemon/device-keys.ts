import { fingerprintOf, IsthmusError, type KeyRotation, rotationTranscript } from "@isthmus/protocol";
import { type Logger, verifySignature } from "@isthmus/service";
import { type Store, update } from "@isthmus/store";
import type { Profiles } from "../profiles/profiles.ts";
import { type DeviceRecord, MOST_ROTATIONS, PREFIX } from "../profiles/records.ts";

/** The devices of users, and what becomes of their keys. */
export class DeviceKeys {
  readonly #store: Store;
  readonly #profiles: Profiles;
  readonly #logger: Logger;

  constructor(options: { store: Store; profiles: Profiles; logger: Logger }) {
    this.#store = options.store;
    this.#profiles = options.profiles;
    this.#logger = options.logger;
  }

  /** A user's devices with their keys; one that goes on under another key is shown once. */
  list(user: string): (DeviceRecord & { key: string })[] {
    const devices: (DeviceRecord & { key: string })[] = [];
    for (const key of this.#profiles.devicesOf(user)) {
      const device = this.#profiles.device(key)!;
      if (device.replacedBy === undefined) devices.push({ key, ...device });
    }
    return devices;
  }

  /** @throws IsthmusError `unknown-device` */
  find(user: string, fingerprint: string): string {
    for (const key of this.#profiles.devicesOf(user)) if (fingerprintOf(key) === fingerprint) return key;
    throw new IsthmusError("unknown-device");
  }

  /** From now on the key is refused and its service names are free. @throws IsthmusError `store-unavailable` */
  async revoke(key: string): Promise<void> {
    const revoked = new Date().toISOString();
    const device = await this.#profiles.put("device", key, (record) => {
      if (!record) throw new IsthmusError("unknown-device");
      return record.revoked === undefined ? { ...record, revoked } : record;
    });
    this.#logger.info({ user: device.user, fingerprint: fingerprintOf(key) }, "a device was revoked");
    for (const id of [...this.#profiles.servicesOfDevice(key)]) {
      await this.#profiles.remove("service", id, (record) => record.device === key);
    }
  }

  /**
   * Gives a device a new key. Each step may be repeated: an attempt that failed in the middle is completed by the next.
   * @throws IsthmusError `bad-signature`, `bad-request` where the new key is known already, `store-unavailable`
   */
  async rotate(oldKey: string, newKey: string, oldSignature: string, newSignature: string): Promise<void> {
    const transcript = rotationTranscript(oldKey, newKey);
    if (!verifySignature(oldKey, transcript, oldSignature) || !verifySignature(newKey, transcript, newSignature)) {
      throw new IsthmusError("bad-signature");
    }
    const device = this.#profiles.device(oldKey);
    if (!device || newKey === oldKey) throw new IsthmusError("bad-request", "the key is the device's own already");
    const rotation: KeyRotation = { from: oldKey, to: newKey, signature: oldSignature };
    const { user, name, created } = device;
    const chain = [...device.rotations, rotation];
    const rotations = chain.slice(-MOST_ROTATIONS);
    await this.#profiles.put("device", newKey, (record) => {
      if (record && record.rotations.at(-1)?.from !== oldKey) {
        throw new IsthmusError("bad-request", "the key belongs to another device");
      }
      return record ?? { user, name, created, rotations };
    });
    await update(this.#store, `${PREFIX.deviceName}${user}/${name}`, () => ({ key: newKey }));
    for (const id of [...this.#profiles.servicesOfDevice(oldKey)]) {
      await this.#profiles.put("service", id, (record) => {
        if (!record) throw new IsthmusError("conflict");
        return record.device === oldKey ? { ...record, device: newKey } : record;
      });
    }
    // A key that the chain no longer names is as unknown as any other: no device leaves more records than the chain has.
    for (const { from } of chain.slice(0, -MOST_ROTATIONS)) {
      await this.#profiles.remove("device", from, (record) => record.replacedBy !== undefined);
    }
    const revoked = new Date().toISOString();
    // Last, since it ends the session.
    await this.#profiles.put("device", oldKey, (record) => ({
      ...(record ?? device),
      revoked: record?.revoked ?? revoked,
      replacedBy: newKey,
    }));
    this.#logger.info({ user, device: name, fingerprint: fingerprintOf(newKey) }, "a device has a new key");
  }
}
