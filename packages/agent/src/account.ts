import { setImmediate } from "node:timers/promises";
import {
  CODES,
  decodeInvite,
  fingerprintOf,
  type Invite,
  IsthmusError,
  rotationTranscript,
  toIsthmusError,
} from "@isthmus/protocol";
import type { Logger } from "@isthmus/service";
import type { DeviceKey } from "./device-key.ts";
import { connectToIsb, type IsbEvents, type IsbSession, type IsbTarget, whenLoggedIn } from "./isb-connection.ts";
import type { StateFile } from "./state.ts";

/** What an account needs of the daemon around it. */
export interface AccountWorld {
  /** What happens at the session to the ISB, whichever session it is. */
  events: IsbEvents;
  /** The device leaves its ISB: what it has through it ends. Called before the session ends, and again behind it. */
  leaving(): Promise<void>;
  /** The device has another key: links are to be made anew. The session under the old key has ended. */
  keyChanged(): Promise<void>;
}

export interface AccountOptions {
  file: StateFile;
  key: DeviceKey;
  boot: string;
  /** Allows a session over `ws://` to another host. */
  insecure: boolean;
  logger: Logger;
}

/**
 * This device's account at an ISB: who it is there, its session, and its key. Logins, logouts and changes of the key
 * follow one after the other: each takes the session away and makes another, and two at a time would leave one that
 * nobody ends.
 */
export class Account {
  readonly #options: AccountOptions;
  readonly #world: AccountWorld;
  #session: IsbSession | undefined;
  #registration: { invite: string; device?: string } | undefined;
  #turn: Promise<unknown> = Promise.resolve();
  #isStopped = false;

  constructor(options: AccountOptions, world: AccountWorld) {
    this.#options = options;
    this.#world = world;
  }

  /** The session to the ISB, up or not; none without an account. */
  get session(): IsbSession | undefined {
    return this.#session;
  }

  get user(): string | undefined {
    return this.#session?.login?.reply.user ?? this.#options.file.state.isb?.user;
  }

  /** Why there is no session at the moment, if so. */
  get problem(): string | undefined {
    if (!this.#options.file.state.isb) return "not logged in: 'isthmus login INVITE'";
    return this.#session?.state === "up"
      ? undefined
      : (this.#session?.lastError?.message ?? "the ISB is not connected yet");
  }

  /** @throws IsthmusError why no session is up */
  require(): IsbSession {
    const session = this.#session;
    if (session?.state === "up") return session;
    throw session?.lastError ?? new IsthmusError("not-logged-in", this.problem);
  }

  /** Logs in where the device has an account, unless somebody was so quick as to do so meanwhile. */
  start(): void {
    const { isb } = this.#options.file.state;
    if (isb && !this.#session) this.#connect(isb);
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#session?.stop();
  }

  /** @throws IsthmusError `invite-invalid`, `bad-request` at another ISB than before, or why the ISB refused */
  async login(inviteText: string, device?: string): Promise<{ user?: string; device?: string; isb: string }> {
    const invite = decodeInvite(inviteText);
    if (invite.role !== "daemon") throw new IsthmusError("invite-invalid", "this invite is for an IST");
    return this.#inTurn(() => this.#login(invite, device));
  }

  /** Forgets the ISB, and with it subscriptions. @throws IsthmusError `store-unavailable`, and all is as before */
  logout(): Promise<void> {
    return this.#inTurn(async () => {
      this.#options.file.update((state) => {
        delete state.isb;
        state.subscriptions = [];
      });
      await this.#world.leaving();
      await this.#disconnect();
      // What was begun while the ISB was told has nobody to negotiate with any more.
      await this.#world.leaving();
    });
  }

  /** A new device key, signed by the old one. @returns its fingerprint @throws IsthmusError of the ISB */
  rotate(): Promise<string> {
    return this.#inTurn(async () => {
      const session = this.require();
      const { key } = this.#options;
      const { identity } = key;
      const next = key.prepare();
      const transcript = rotationTranscript(identity.publicKey, next.publicKey);
      try {
        await session.request("rotate", {
          key: next.publicKey,
          oldSignature: identity.sign(transcript),
          newSignature: next.sign(transcript),
        });
      } catch (error) {
        // Where the answer is missing, the ISB may have taken the key all the same.
        if (!CODES[toIsthmusError(error).code].retry) key.abandon();
        throw error;
      }
      await this.#adoptKey();
      return fingerprintOf(next.publicKey);
    });
  }

  /** Takes the right to log in from a device of this user. @throws IsthmusError of the ISB */
  async revoke(fingerprint: string): Promise<void> {
    const session = this.require();
    try {
      await session.request("revoke", { fingerprint });
    } catch (error) {
      // A device that revokes itself is sent away before it can be answered; the reason is known a moment later.
      await setImmediate();
      if (session.lastError?.code !== "device-revoked") throw error;
    }
  }

  /**
   * Ends a change of the key whose answer was lost: an ISB that calls the old one revoked knows the device by the next
   * one. To be called now and then.
   */
  tidy(): void {
    const { key, logger } = this.#options;
    if (this.#session?.lastError?.code !== "device-revoked" || !key.isChanging) return;
    this.#inTurn(() => this.#adoptKey()).catch((err: unknown) => logger.error({ err }, "the key is not changed"));
  }

  #inTurn<T>(run: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(run);
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  async #login(invite: Invite, device?: string): Promise<{ user?: string; device?: string; isb: string }> {
    const { file } = this.#options;
    const known = file.state.isb;
    if (known && known.fingerprint !== invite.isb) {
      throw new IsthmusError("bad-request", `this device is logged in at ${known.origins[0]}: 'isthmus logout' first`);
    }
    await this.#disconnect();
    const target = {
      origins: invite.addresses.map((address) => `${invite.secure ? "wss" : "ws"}://${address}`),
      fingerprint: invite.isb,
      ...(invite.certificate ? { certificate: invite.certificate } : {}),
    };
    this.#registration = { invite: invite.token, ...(device === undefined ? {} : { device }) };
    const session = this.#connect(target);
    try {
      await whenLoggedIn(session, target.origins.length);
      const { user, device: name } = session.login!.reply;
      const owner = { ...(user === undefined ? {} : { user }), ...(name === undefined ? {} : { device: name }) };
      file.update((state) => {
        state.isb = { ...target, ...owner };
      });
      return { isb: session.origin, ...owner };
    } catch (error) {
      await this.#disconnect();
      if (known) this.#connect(known);
      throw error;
    } finally {
      this.#registration = undefined;
    }
  }

  async #disconnect(): Promise<void> {
    const session = this.#session;
    this.#session = undefined;
    await session?.stop();
    this.#world.events.down();
  }

  #connect(target: IsbTarget): IsbSession {
    const { key, boot, insecure, logger } = this.#options;
    const session = connectToIsb(
      {
        identity: key.identity,
        boot,
        target,
        registration: () => this.#registration,
        allowInsecure: insecure,
        logger: logger.child({ part: "isb" }),
      },
      this.#world.events,
    );
    if (this.#isStopped) return session;
    this.#session = session;
    session.start();
    return session;
  }

  async #adoptKey(): Promise<void> {
    const { file, key } = this.#options;
    if (!key.isChanging) return;
    key.adopt();
    await this.#disconnect();
    await this.#world.keyChanged();
    const { isb } = file.state;
    if (isb) this.#connect(isb);
  }
}
