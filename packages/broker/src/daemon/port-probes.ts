import { connect } from "node:net";
import {
  type Code,
  canonicalIp,
  IsthmusError,
  type ProbeReport,
  type ProbeRequest,
  sourcePrefix,
  toIsthmusError,
} from "@isthmus/protocol";
import { type Rate, TokenBuckets } from "@isthmus/session";
import type { DaemonSession } from "./daemon-session.ts";

const DIAL_TIMEOUT_MS = 5000;
/** Dials at a time. */
const MOST_DIALS = 256;

/** What came of a dial. */
type DialOutcome = Extract<ProbeReport["outcome"], "reachable" | "refused" | "timeout" | "unreachable">;

export interface PortProbesOptions {
  /** Sessions come through a proxy, whose address is not the daemon's. */
  isOff: boolean;
  perDevice: Rate;
  perUser: Rate;
  /** All users behind one address together: what a neighbour there is spared. */
  perAddress: Rate;
  count: (outcome: ProbeReport["outcome"] | Code) => void;
}

/**
 * Looks at ports from outside for the daemons that have them. A dial goes to the session's own source address and nowhere
 * else, ends with the handshake, and carries nothing: a daemon learns by it what any host of the Internet could see of
 * its address, and no more.
 */
export class PortProbes {
  readonly #options: PortProbesOptions;
  readonly #perDevice: TokenBuckets;
  readonly #perUser: TokenBuckets;
  readonly #perAddress: TokenBuckets;
  readonly #dials = new Set<(error: IsthmusError) => void>();

  constructor(options: PortProbesOptions) {
    this.#options = options;
    this.#perDevice = new TokenBuckets(options.perDevice);
    this.#perUser = new TokenBuckets(options.perUser);
    this.#perAddress = new TokenBuckets(options.perAddress);
  }

  /** @throws IsthmusError `probes-off`, `bad-request` for a port that is none of a daemon's, `rate-limited`, `shutting-down` */
  async probe(session: DaemonSession, request: ProbeRequest): Promise<ProbeReport> {
    const { count } = this.#options;
    try {
      const report = { address: session.address, outcome: await this.#outcomeOf(session, request) };
      count(report.outcome);
      return report;
    } catch (error) {
      count(toIsthmusError(error).code);
      throw error;
    }
  }

  stop(): void {
    for (const end of [...this.#dials]) end(new IsthmusError("shutting-down"));
  }

  async #outcomeOf(session: DaemonSession, { proto, port, address }: ProbeRequest): Promise<ProbeReport["outcome"]> {
    if (this.#options.isOff) throw new IsthmusError("probes-off");
    // What listens below is seldom the user's: another's mail or shell at that address would have the ISB in its log.
    if (port < 1024 && port !== 443)
      throw new IsthmusError("bad-request", "ports below 1024 are not probed, but for 443");
    if (address !== undefined && canonicalIp(address) !== session.address) return "other-address";
    if (proto === "udp") return "unprovable";
    this.#spend(session);
    return this.#dial(session.address, port);
  }

  #spend({ key, address, context }: DaemonSession): void {
    const now = performance.now();
    if (this.#dials.size >= MOST_DIALS) throw new IsthmusError("rate-limited", "too many ports are being probed");
    const retryAfterMs =
      this.#perDevice.take(key, now) ||
      this.#perUser.take(context.user, now) ||
      this.#perAddress.take(sourcePrefix(address), now);
    if (retryAfterMs > 0) throw new IsthmusError("rate-limited", undefined, { retryAfterMs });
  }

  #dial(host: string, port: number): Promise<DialOutcome> {
    const { promise, resolve, reject } = Promise.withResolvers<DialOutcome>();
    const socket = connect({ host, port });
    const timer = setTimeout(() => resolve("timeout"), DIAL_TIMEOUT_MS);
    this.#dials.add(reject);
    // Two ends of one host can find each other without anybody listening: the dial has met itself.
    const isItself = () => socket.localPort === port && canonicalIp(socket.localAddress ?? "") === host;
    socket.once("connect", () => resolve(isItself() ? "refused" : "reachable"));
    socket.on("error", ({ code }: NodeJS.ErrnoException) => resolve(outcomeOfError(code)));
    return promise.finally(() => {
      clearTimeout(timer);
      this.#dials.delete(reject);
      socket.destroy();
    });
  }
}

function outcomeOfError(code: string | undefined): DialOutcome {
  switch (code) {
    case "ECONNREFUSED":
    case "ECONNRESET":
      return "refused";
    case "ETIMEDOUT":
      return "timeout";
    default:
      return "unreachable";
  }
}
