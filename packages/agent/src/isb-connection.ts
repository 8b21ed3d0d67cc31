import {
  CODES,
  type Code,
  DEVICE_PREFIX_BYTES,
  type EventBody,
  IsthmusError,
  isbDaemon,
  type ReplyBody,
  type RequestBody,
} from "@isthmus/protocol";
import type { Identity, Logger } from "@isthmus/service";
import { BACKOFF_TO_ISB, SessionClient } from "@isthmus/session";

/** How long a first login may take before the user is told why it does not work. */
const LOGIN_WAIT_MS = 15_000;
/** How often a login is looked at meanwhile. */
const LOGIN_CHECK_MS = 50;
/** What an ISB says of a login that no further attempt would change, at whichever of its addresses. */
const LOGIN_REFUSED: ReadonlySet<Code> = new Set([
  "invite-invalid",
  "unknown-device",
  "device-revoked",
  "user-disabled",
]);

type ToServer = typeof isbDaemon.toServer;
type ToClient = typeof isbDaemon.toClient;

export type IsbSession = SessionClient<typeof isbDaemon>;
export type DeclareBody = RequestBody<ToServer, "declare">;
export type DeclareReply = ReplyBody<ToServer, "declare">;
export type AskBody = RequestBody<ToClient, "ask">;
export type ToldBody = EventBody<ToClient, "told">;
export type DirectoryBody = EventBody<ToClient, "directory">;
export type ReachabilityBody = EventBody<ToClient, "reachability">;

export interface IsbTarget {
  origins: string[];
  fingerprint: string;
  certificate?: string | undefined;
}

/** What happens at the session to the ISB, for the daemon around it. */
export interface IsbEvents {
  /** The whole desired state, and what became of it. */
  declaration(): DeclareBody;
  declared(reply: DeclareReply): void;
  up(): void;
  down(): void;
  /** Somebody wants to use a service. @throws IsthmusError the refusal */
  ask(body: AskBody): { handshake: string };
  told(body: ToldBody): void;
  renegotiate(subscription: string): void;
  ended(body: EventBody<ToClient, "ended">): void;
  directory(body: DirectoryBody): void;
  reachability(body: ReachabilityBody): void;
  control(peer: string, frame: Buffer): void;
}

export interface IsbOptions {
  identity: Identity;
  boot: string;
  target: IsbTarget;
  registration: () => { invite: string; device?: string } | undefined;
  allowInsecure: boolean;
  logger: Logger;
}

/** The persistent login at the ISB: at each one the whole desired state is declared. */
export function connectToIsb(options: IsbOptions, events: IsbEvents): IsbSession {
  const { target } = options;
  const session: IsbSession = new SessionClient({
    protocol: isbDaemon,
    identity: options.identity,
    role: "daemon",
    serverRole: "isb",
    target: {
      origins: target.origins,
      expect: { fingerprint: target.fingerprint },
      ...(target.certificate === undefined ? {} : { certificate: target.certificate }),
    },
    boot: options.boot,
    registration: options.registration,
    allowInsecure: options.allowInsecure,
    backoff: BACKOFF_TO_ISB,
    handlers: {
      requests: { ask: (_session, body) => events.ask(body) },
      events: {
        told: (_session, body) => events.told(body),
        renegotiate: (_session, { subscription }) => events.renegotiate(subscription),
        ended: (_session, body) => events.ended(body),
        directory: (_session, body) => events.directory(body),
        reachability: (_session, body) => events.reachability(body),
      },
      binary: (_session, frame) => {
        if (frame.length <= DEVICE_PREFIX_BYTES) return;
        const peer = frame.toString("base64url", 0, DEVICE_PREFIX_BYTES);
        events.control(peer, frame.subarray(DEVICE_PREFIX_BYTES));
      },
    },
    hooks: {
      internalError: (_session, type, error) =>
        options.logger.error({ err: error, type }, "a message could not be handled"),
    },
    onLogin: async () => {
      events.declared(await session.request("declare", events.declaration()));
    },
    onUp: () => events.up(),
    onDown: () => events.down(),
    logger: options.logger,
  });
  return session;
}

/**
 * Waits for a first login, over the attempts that a session makes by itself.
 * @throws IsthmusError why the ISB refused, at all its addresses or once for good; `timeout` when no answer came
 */
export async function whenLoggedIn(session: IsbSession, addresses: number): Promise<void> {
  const refused = new AbortController();
  let refusal: IsthmusError | undefined;
  let refusals = 0;
  const look = setInterval(() => {
    const error = session.lastError;
    if (!error || error === refusal || CODES[error.code].retry) return;
    refusal = error;
    refusals++;
    if (LOGIN_REFUSED.has(error.code) || refusals >= addresses) refused.abort(error);
  }, LOGIN_CHECK_MS);
  try {
    await session.whenUp(AbortSignal.any([refused.signal, AbortSignal.timeout(LOGIN_WAIT_MS)]));
  } catch {
    throw refusal ?? session.lastError ?? new IsthmusError("timeout", `no answer from ${session.origin}`);
  } finally {
    clearInterval(look);
  }
}
