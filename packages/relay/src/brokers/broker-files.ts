import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { base64url, decodeInvite, explain, IsthmusError } from "@isthmus/protocol";
import { writeFileAtomic } from "@isthmus/service";
import { z } from "zod";
import { brokerConfig } from "../config.ts";

/** An ISB as the data folder keeps it: from whose invite, and whether that has registered this IST. */
const storedBroker = brokerConfig.extend({ invite: base64url(16), registered: z.boolean() });
export type StoredBroker = z.infer<typeof storedBroker>;

/** The ISBs that were joined by an invite, one file each in a data folder. */
export class BrokerFiles {
  readonly #folder: string;

  constructor(data: string) {
    this.#folder = join(data, "isbs");
  }

  /** @throws Error that names the file which cannot be read */
  all(): StoredBroker[] {
    let files: string[];
    try {
      files = readdirSync(this.#folder).filter((file) => file.endsWith(".json"));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
      throw error;
    }
    return files.sort().map((file) => read(join(this.#folder, file)));
  }

  /**
   * Keeps the ISB of an invite. The same invite given again (it may stand in a configuration) changes nothing; another
   * one of the same ISB gives it new addresses and registers this IST anew.
   * @throws IsthmusError `invite-invalid`
   */
  join(invite: string): StoredBroker {
    const { role, addresses, isb, certificate, secure, token } = decodeInvite(invite);
    if (role !== "ist") throw new IsthmusError("invite-invalid", "the invite is for a user's device, not for an IST");
    const known = this.all().find(({ fingerprint }) => fingerprint === isb);
    if (known?.invite === token) return known;
    const pinned = certificate === undefined ? {} : { certificate };
    const broker = { addresses, fingerprint: isb, secure, ...pinned, invite: token, registered: false };
    this.#write(broker);
    return broker;
  }

  /** The ISB knows this IST now: the invite is not shown again. */
  registered(broker: StoredBroker): void {
    this.#write({ ...broker, registered: true });
  }

  #write(broker: StoredBroker): void {
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
    writeFileAtomic(join(this.#folder, `${broker.fingerprint}.json`), `${JSON.stringify(broker, undefined, 2)}\n`);
  }
}

function read(path: string): StoredBroker {
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(path, "utf8"));
  } catch (cause) {
    throw new Error(`${path}: ${(cause as Error).message}`, { cause });
  }
  const parsed = storedBroker.safeParse(json);
  if (!parsed.success) throw new Error(`${path}: ${explain(parsed.error)}`);
  return parsed.data;
}
