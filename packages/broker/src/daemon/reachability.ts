import { randomBytes } from "node:crypto";
import { connect } from "node:net";
import { type Code, encodeProbe, formatHostPort, sourcePrefix } from "@isthmus/protocol";
import { type Rate, TokenBuckets } from "@isthmus/session";
import type { DaemonSession } from "./daemon-session.ts";

/** From the dial to the nonce on the session. */
const PROBE_TIMEOUT_MS = 5000;
/** Dials at a time. */
const MOST_PROBES = 256;

/**
 * Whether a daemon's leg port can be reached, found out by dialling it: a nonce goes there and must come back over the
 * daemon's session. The dial goes to the session's own source address and nowhere else, so that a daemon cannot use the
 * broker to knock at other hosts' doors.
 */
export class Reachability {
  readonly #isOff: boolean;
  readonly #perDevice: TokenBuckets;
  readonly #perAddress: TokenBuckets;
  readonly #count: (outcome: "reachable" | Code) => void;
  readonly #awaited = new Map<string, { session: DaemonSession; arrived: () => void }>();
  readonly #dials = new Set<(code: Code) => void>();

  /** @param options.isOff sessions come through a proxy, whose address is not the daemon's */
  constructor(options: {
    isOff: boolean;
    perDevice: Rate;
    perAddress: Rate;
    count: (outcome: "reachable" | Code) => void;
  }) {
    this.#isOff = options.isOff;
    this.#perDevice = new TokenBuckets(options.perDevice);
    this.#perAddress = new TokenBuckets(options.perAddress);
    this.#count = options.count;
  }

  /** A daemon says where it takes direct legs. The result is kept with the session, and the daemon is told. */
  async look(session: DaemonSession, legPort: number | undefined): Promise<void> {
    const { context } = session;
    if (legPort === context.legPort && (legPort === undefined || context.reachable !== undefined)) return;
    context.legPort = legPort;
    context.reachable = undefined;
    if (legPort === undefined) return;
    const code = await this.#probe(session, legPort);
    this.#count(code ?? "reachable");
    // It may have declared another port meanwhile.
    if (context.legPort !== legPort) return;
    if (code !== undefined) {
      session.event("reachability", { reachable: false, code });
      return;
    }
    context.reachable = formatHostPort({ host: session.address, port: legPort });
    session.event("reachability", { reachable: true, address: context.reachable });
  }

  /** A nonce has come back. */
  probed(session: DaemonSession, nonce: string): void {
    const awaited = this.#awaited.get(nonce);
    if (awaited?.session === session) awaited.arrived();
  }

  stop(): void {
    for (const done of [...this.#dials]) done("shutting-down");
  }

  /** @returns why the port counts as not reachable, or nothing when it is */
  async #probe(session: DaemonSession, port: number): Promise<Code | undefined> {
    if (this.#isOff) return "no-path";
    // A daemon runs without privilege and has a port above. 443 is for those who can open nothing else. Any other low
    // port belongs to a service of that address (SMTP, SSH), whose log would show the broker.
    if (port < 1024 && port !== 443) return "bad-request";
    const now = performance.now();
    if (this.#dials.size >= MOST_PROBES) return "rate-limited";
    if (this.#perDevice.take(session.key, now) > 0) return "rate-limited";
    if (this.#perAddress.take(sourcePrefix(session.address), now) > 0) return "rate-limited";
    return this.#dial(session, port);
  }

  #dial(session: DaemonSession, port: number): Promise<Code | undefined> {
    const nonce = randomBytes(16);
    const name = nonce.toString("base64url");
    const { promise, resolve } = Promise.withResolvers<Code | undefined>();
    const socket = connect({ host: session.address, port });
    const done = (code: Code | undefined): void => {
      clearTimeout(timer);
      this.#awaited.delete(name);
      this.#dials.delete(done);
      socket.destroy();
      resolve(code);
    };
    this.#dials.add(done);
    const timer = setTimeout(() => done("timeout"), PROBE_TIMEOUT_MS);
    this.#awaited.set(name, { session, arrived: () => done(undefined) });
    socket.once("connect", () => socket.write(encodeProbe(nonce)));
    // What the other end says is of no interest, but must not pile up.
    socket.resume();
    socket.on("error", () => done("no-path"));
    // The daemon may close as soon as it has read; the nonce may still be on its way.
    return promise;
  }
}
