import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import {
  certificateFingerprint,
  ed25519PublicKey,
  explain,
  fingerprint,
  hostPort,
  IsthmusError,
  localService,
  name,
  origin,
  subscriptionId,
} from "@isthmus/protocol";
import { writeFileAtomic } from "@isthmus/service";
import { z } from "zod";

/** What the daemon remembers over restarts. Keys of links and grants are never in it. */
const schema = z.object({
  version: z.literal(1),
  isb: z
    .object({
      origins: z.array(origin).min(1),
      fingerprint,
      certificate: certificateFingerprint.optional(),
      user: name.optional(),
      device: name.optional(),
    })
    .optional(),
  services: z.array(localService),
  subscriptions: z.array(
    z.object({
      id: subscriptionId,
      service: name,
      user: name,
      fingerprint: fingerprint.optional(),
      /** Where each channel is reached on this host. */
      listen: z.array(z.object({ channel: name, proto: z.enum(["tcp", "udp"]), address: hostPort })),
      plain: z.boolean(),
      accept: z.record(name, hostPort),
    }),
  ),
  /** Keys of peers, as of their first use or as told by the user: by `service@user`. */
  pins: z.record(z.string(), z.object({ key: ed25519PublicKey, since: z.string() })),
});
export type State = z.infer<typeof schema>;
export type StoredSubscription = State["subscriptions"][number];

const EMPTY: State = { version: 1, services: [], subscriptions: [], pins: {} };

/** The state file, and its content in memory. Every change is on disk when {@link update} returns. */
export class StateFile {
  readonly #path: string;
  #state: State;

  /** @throws Error that names the file when it is there and cannot be used; it is never overwritten then */
  constructor(folder: string) {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    this.#path = join(folder, "state.json");
    this.#state = this.#read();
  }

  get state(): Readonly<State> {
    return this.#state;
  }

  /**
   * A change that changes nothing does not touch the disk.
   * @throws IsthmusError `store-unavailable` when the file cannot be written; nothing is other than before then
   */
  update(change: (state: State) => void): void {
    const next = structuredClone(this.#state);
    change(next);
    if (isDeepStrictEqual(next, this.#state)) return;
    try {
      writeFileAtomic(this.#path, `${JSON.stringify(next, null, 2)}\n`);
    } catch (cause) {
      throw new IsthmusError("store-unavailable", `cannot write ${this.#path}: ${(cause as Error).message}`, { cause });
    }
    this.#state = next;
  }

  #read(): State {
    let text: string;
    try {
      text = readFileSync(this.#path, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return structuredClone(EMPTY);
      throw new Error(`${this.#path}: ${(error as Error).message}`, { cause: error });
    }
    let json: unknown;
    try {
      json = JSON.parse(text);
    } catch (cause) {
      throw new Error(`${this.#path} is not JSON: move it away to start afresh`, { cause });
    }
    const parsed = schema.safeParse(json);
    if (!parsed.success) throw new Error(`${this.#path} cannot be used: ${explain(parsed.error)}`);
    return parsed.data;
  }
}
