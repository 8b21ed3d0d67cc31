import { fingerprintOf, IsthmusError, type KeyRotation, rotationTranscript } from "@isthmus/protocol";
import { type Logger, verifySignature } from "@isthmus/service";
import type { StateFile } from "./state.ts";

/**
 * The keys of peers: pinned at the first use, or by the user (`service@user#fingerprint`). A changed key is an error,
 * unless the pinned key itself has signed the change; it is never silent.
 */
export class Pins {
  readonly #file: StateFile;
  readonly #logger: Logger;
  /** Keys that were refused, until the user decides. */
  readonly #offered = new Map<string, string>();

  constructor(file: StateFile, logger: Logger) {
    this.#file = file;
    this.#logger = logger;
  }

  /**
   * Checks a peer's key, and pins it if the peer has none.
   * @param peer `service@user`
   * @param wanted fingerprint that the user gave for this peer
   * @throws IsthmusError `peer-key-changed`
   */
  check(peer: string, key: string, rotations: readonly KeyRotation[], wanted?: string): void {
    const pinned = this.#file.state.pins[peer]?.key;
    if (wanted !== undefined && !isWanted(key, rotations, wanted)) {
      this.#offered.set(peer, key);
      throw new IsthmusError("peer-key-changed", `the key of ${peer} is ${fingerprintOf(key)}, not ${wanted}`);
    }
    if (pinned === key) {
      // Another one that it showed meanwhile is not on offer any more: nobody shall accept it by accident.
      this.#offered.delete(peer);
      return;
    }
    if (pinned !== undefined && wanted === undefined && !leadsTo(pinned, key, rotations)) {
      this.#offered.set(peer, key);
      throw new IsthmusError(
        "peer-key-changed",
        `the key of ${peer} was ${fingerprintOf(pinned)} and is now ${fingerprintOf(key)}; 'isthmus trust ${peer}' accepts it`,
      );
    }
    this.#pin(peer, key);
    this.#offered.delete(peer);
    if (pinned === undefined) this.#logger.info({ peer, fingerprint: fingerprintOf(key) }, "key pinned at first use");
    else this.#logger.warn({ peer, fingerprint: fingerprintOf(key) }, "the peer's key is another one, rightly so");
  }

  /** Accepts the key that was offered last. @throws IsthmusError `bad-request` when none was */
  trust(peer: string, wanted?: string): string {
    const key = this.#offered.get(peer);
    if (key === undefined) throw new IsthmusError("bad-request", `${peer} offered no other key than the pinned one`);
    if (wanted !== undefined && fingerprintOf(key) !== wanted) {
      throw new IsthmusError("bad-request", `${peer} offered ${fingerprintOf(key)}, not ${wanted}`);
    }
    this.#pin(peer, key);
    this.#offered.delete(peer);
    return fingerprintOf(key);
  }

  /** The next key that is met is pinned again. @throws IsthmusError `bad-request` when none is pinned */
  forget(peer: string): void {
    if (this.#file.state.pins[peer] === undefined) throw new IsthmusError("bad-request", `no key of ${peer} is pinned`);
    this.#file.update((state) => {
      delete state.pins[peer];
    });
    this.#offered.delete(peer);
  }

  all(): { peer: string; fingerprint: string; since: string; offered?: string }[] {
    const peers = new Set([...Object.keys(this.#file.state.pins), ...this.#offered.keys()]);
    return [...peers].sort().map((peer) => {
      const pin = this.#file.state.pins[peer];
      const offered = this.#offered.get(peer);
      return {
        peer,
        fingerprint: pin ? fingerprintOf(pin.key) : "",
        since: pin?.since ?? "",
        ...(offered === undefined ? {} : { offered: fingerprintOf(offered) }),
      };
    });
  }

  #pin(peer: string, key: string): void {
    this.#file.update((state) => {
      state.pins[peer] = { key, since: new Date().toISOString() };
    });
  }
}

/** Whether a chain of rotations, each signed by the older key, leads from the pinned key to the present one. */
function leadsTo(pinned: string, key: string, rotations: readonly KeyRotation[]): boolean {
  let at = pinned;
  for (const { from, to, signature } of rotations) {
    if (from !== at) continue;
    if (!verifySignature(from, rotationTranscript(from, to), signature)) return false;
    at = to;
  }
  return at === key;
}

/** Whether the key is the wanted one, or follows from it by rotations. */
function isWanted(key: string, rotations: readonly KeyRotation[], wanted: string): boolean {
  const start = rotations.find(({ from }) => fingerprintOf(from) === wanted);
  return fingerprintOf(key) === wanted || (start !== undefined && leadsTo(start.from, key, rotations));
}
