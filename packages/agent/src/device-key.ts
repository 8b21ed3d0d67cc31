import { existsSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import {
  createIdentity,
  type Identity,
  identityFromPem,
  loadOrCreateIdentity,
  writeFileAtomic,
} from "@isthmus/service";

/**
 * The device's key on disk, and during a change the next one beside it: the next one is there before the ISB hears of it,
 * so that no answer that is lost, and no crash, leaves a device without the key that the ISB knows.
 */
export class DeviceKey {
  readonly #path: string;
  readonly #nextPath: string;
  #identity: Identity;

  /** @throws Error that names the file when it cannot be used */
  constructor(folder: string) {
    this.#path = join(folder, "device.pem");
    this.#nextPath = join(folder, "device.next.pem");
    this.#identity = loadOrCreateIdentity(this.#path);
  }

  get identity(): Identity {
    return this.#identity;
  }

  /** Whether a change was begun and its outcome is not known. */
  get isChanging(): boolean {
    return existsSync(this.#nextPath);
  }

  /** The next key: that of a change that was begun before, else a new one. On disk when it is returned. */
  prepare(): Identity {
    if (this.isChanging) return identityFromPem(readFileSync(this.#nextPath, "utf8"));
    const next = createIdentity();
    writeFileAtomic(this.#nextPath, next.toPem(), { mode: 0o600 });
    return next;
  }

  /** The ISB has taken the next key: it is the device's from now on. */
  adopt(): void {
    const next = this.prepare();
    renameSync(this.#nextPath, this.#path);
    this.#identity = next;
  }

  /** The ISB has not taken the next key, and never will. */
  abandon(): void {
    rmSync(this.#nextPath, { force: true });
  }
}
