import { randomBytes } from "node:crypto";
import { createStaticKey, respond } from "@isthmus/link";
import {
  encodeInvite,
  fingerprintOf,
  type GrantPayload,
  IsthmusError,
  isbDaemon,
  PROTOCOL_VERSION,
  type ReplyInput,
  type RequestBody,
} from "@isthmus/protocol";
import { createIdentity } from "@isthmus/service";
import { type LoginAttempt, type Session, signGrant } from "@isthmus/session";
import { vi } from "vitest";
import { serveSessions } from "./session-server.ts";

type ToServer = (typeof isbDaemon)["toServer"];
type DaemonSession = Session<typeof isbDaemon, undefined>;
type SubscribeBody = RequestBody<ToServer, "subscribe">;
type SubscribeReply = ReplyInput<ToServer, "subscribe">;

/** Services that the scripted provider has. */
const CHANNELS: SubscribeReply["channels"] = [{ id: "tcp", proto: "tcp" }];

/**
 * An ISB as a test wants it, over the real wire: with it a daemon meets every order of messages, and every lie. It plays
 * the provider as well, as far as a negotiation goes.
 */
export class ScriptedIsb {
  readonly identity = createIdentity();
  /** The provider's. */
  provider = createIdentity();
  /** Everything that was asked, in order. */
  readonly asked: string[] = [];
  readonly allocated: RequestBody<ToServer, "allocate">[] = [];
  readonly declared: RequestBody<ToServer, "declare">[] = [];
  /** What comes of a login, a declaration, a subscription and so on; a test replaces what it is about. */
  onLogin: (attempt: LoginAttempt) => void = () => undefined;
  onDeclare: (body: RequestBody<ToServer, "declare">) => Promise<ReplyInput<ToServer, "declare">> = async (body) => ({
    services: body.services.map(({ name }) => ({ name })),
    subscriptions: body.subscriptions.map(({ subscription }) => ({ subscription })),
  });
  onSubscribe: (body: SubscribeBody, requestId: string) => Promise<SubscribeReply> | SubscribeReply = (...args) =>
    this.accept(...args);
  onRenew: (subscription: string) => { grant: string } = (subscription) => ({ grant: this.grant(subscription) });
  onAllocate: (
    body: RequestBody<ToServer, "allocate">,
  ) => Promise<ReplyInput<ToServer, "allocate">> | ReplyInput<ToServer, "allocate"> = () => {
    throw new IsthmusError("no-ist");
  };
  onRotate: (session: DaemonSession) => Promise<Record<string, never>> | Record<string, never> = () => ({});
  #address = "";
  #session: DaemonSession | undefined;

  static async start(): Promise<ScriptedIsb> {
    const isb = new ScriptedIsb();
    isb.#address = await serveSessions<typeof isbDaemon>(isb.identity, {
      role: "isb",
      protocol: isbDaemon,
      authorize: (attempt) => {
        isb.onLogin(attempt);
        return { user: "alice", device: "laptop", context: undefined };
      },
      handlers: isb.#handlers(),
      onOpen: (session) => {
        isb.#session = session;
      },
    });
    return isb;
  }

  get invite(): string {
    return encodeInvite({
      v: PROTOCOL_VERSION,
      role: "daemon",
      addresses: [this.#address],
      secure: false,
      isb: fingerprintOf(this.identity.publicKey),
      token: randomBytes(16).toString("base64url"),
    });
  }

  /** The newest session. */
  get session(): DaemonSession {
    return this.#session!;
  }

  /** How often something was asked. */
  count(type: string): number {
    return this.asked.filter((one) => one === type).length;
  }

  async waitFor(type: string, times = 1): Promise<void> {
    await vi.waitFor(
      () => {
        if (this.count(type) < times)
          throw new Error(`${type} came ${this.count(type)} times: ${this.asked.join(", ")}`);
      },
      { timeout: 10_000, interval: 5 },
    );
  }

  grant(subscription: string, changes: Partial<GrantPayload> = {}): string {
    const iat = Math.floor(Date.now() / 1000);
    return signGrant(this.identity, {
      iss: this.identity.publicKey,
      sub: subscription,
      svc: "web",
      prv: { user: "bob", key: this.provider.publicKey },
      sbr: { user: "alice", key: this.session.key },
      iat,
      exp: iat + 86_400,
      ...changes,
    });
  }

  /** What a provider that takes everybody has the ISB answer. */
  accept(
    { subscription, handshake, service, user }: SubscribeBody,
    requestId: string,
    changes: Partial<SubscribeReply> = {},
  ): SubscribeReply {
    const context = { identity: this.provider, staticKey: createStaticKey(), requestId, subject: `${service}@${user}` };
    const { message } = respond(context, Buffer.from(handshake, "base64url"), performance.now());
    return {
      peer: { user: "bob", key: this.provider.publicKey },
      grant: this.grant(subscription),
      handshake: message.toString("base64url"),
      channels: CHANNELS,
      ...changes,
    };
  }

  #handlers(): Parameters<typeof serveSessions<typeof isbDaemon>>[1]["handlers"] {
    const log = <A extends unknown[], R>(type: string, run: (...args: A) => R) => {
      return (...args: A): R => {
        this.asked.push(type);
        return run(...args);
      };
    };
    const nothing = () => ({});
    return {
      requests: {
        declare: log("declare", (_session: DaemonSession, body: RequestBody<ToServer, "declare">) => {
          this.declared.push(body);
          return this.onDeclare(body);
        }),
        subscribe: log("subscribe", (_session: DaemonSession, body: SubscribeBody, id: string) =>
          this.onSubscribe(body, id),
        ),
        unsubscribe: log("unsubscribe", nothing),
        allocate: log("allocate", (_session: DaemonSession, body: RequestBody<ToServer, "allocate">) => {
          this.allocated.push(body);
          return this.onAllocate(body);
        }),
        renew: log("renew", (_session: DaemonSession, body: RequestBody<ToServer, "renew">) =>
          this.onRenew(body.subscription),
        ),
        list: log("list", () => ({ entries: [] })),
        watch: log("watch", nothing),
        unwatch: log("unwatch", nothing),
        invite: log("invite", () => ({ invite: "none" })),
        devices: log("devices", () => ({ devices: [] })),
        revoke: log("revoke", nothing),
        rotate: log("rotate", (session: DaemonSession) => this.onRotate(session)),
        take: log("take", nothing),
        probe: log("probe", () => ({ address: "192.0.2.1", outcome: "reachable" as const })),
      },
      events: { probed: () => undefined },
      // Control frames that there is no better way for: the provider is not there to read them.
      binary: () => undefined,
    };
  }
}
