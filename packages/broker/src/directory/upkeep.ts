import type { Profiles } from "../profiles/profiles.ts";
import { userOfService } from "../profiles/profiles.ts";
import type { Directory } from "./directory.ts";

/** Keeps the directory what profiles and presence make of it: a listing for each service of a device that may act. */
export class Upkeep {
  readonly #profiles: Profiles;
  readonly #directory: Directory;
  readonly #isPresent: (key: string) => boolean;
  /** Services that their device has withdrawn, although the store holds them still. */
  readonly #hidden = new Set<string>();

  constructor(options: { profiles: Profiles; directory: Directory; isPresent: (key: string) => boolean }) {
    this.#profiles = options.profiles;
    this.#directory = options.directory;
    this.#isPresent = options.isPresent;
  }

  hide(id: string): void {
    this.#hidden.add(id);
    this.#directory.remove(id);
  }

  show(id: string): void {
    if (this.#hidden.delete(id)) this.service(id);
  }

  /** A service's profile has changed. */
  service(id: string): void {
    const record = this.#profiles.service(id);
    const device = record && this.#profiles.device(record.device);
    if (!record || !device || this.#hidden.has(id) || !this.#profiles.isActive(record.device)) {
      this.#directory.remove(id);
      return;
    }
    this.#directory.put({
      id,
      owner: userOfService(id),
      allow: record.spec.allow,
      device: record.device,
      deviceName: device.name,
      spec: record.spec,
      present: this.#isPresent(record.device),
    });
  }

  device(key: string): void {
    for (const id of this.#profiles.servicesOfDevice(key)) this.service(id);
  }

  user(name: string): void {
    for (const id of this.#profiles.servicesOfUser(name)) this.service(id);
  }
}
