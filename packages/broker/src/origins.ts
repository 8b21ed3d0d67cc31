import { isIP } from "node:net";
import { hostname, networkInterfaces } from "node:os";
import { canonicalIp, formatHostPort, isLoopback, parseOrigin } from "@isthmus/protocol";

/** Addresses of interfaces come and go; a login that names an unknown one makes us look again, at most this often. */
const LOOK_AGAIN_MS = 1000;
/** Addresses that an invite can name. */
const MOST_IN_INVITE = 8;

/** Where this ISB listens, and what it was told of how clients reach it. */
export interface OwnOriginsOptions {
  given: readonly string[];
  /** Good for a login, but not for an invite. */
  local: readonly string[];
  secure: boolean;
  /** A wildcard stands for all addresses of this host. */
  host: string;
  port: number;
}

/** The addresses under which clients reach this ISB: as given, or else those at which it listens. */
export class OwnOrigins {
  readonly #given: ReadonlySet<string>;
  readonly #options: OwnOriginsOptions;
  #found: ReadonlySet<string> = new Set();
  #lookedAt = Number.NEGATIVE_INFINITY;

  constructor(options: OwnOriginsOptions) {
    this.#given = new Set(options.given);
    this.#options = options;
  }

  /** Whether a client may have dialled this origin to reach this server. */
  includes(origin: string, now = performance.now()): boolean {
    if (this.#options.local.includes(origin)) return true;
    if (this.#given.size > 0) return this.#given.has(origin);
    if (!this.#found.has(origin) && now - this.#lookedAt >= LOOK_AGAIN_MS) {
      this.#lookedAt = now;
      const hosts = this.#hosts();
      if (hosts.some(isLoopback)) hosts.push("localhost");
      if (isWildcard(this.#options.host)) hosts.push(hostname().toLowerCase());
      const { secure, port } = this.#options;
      this.#found = new Set(hosts.map((host) => `${secure ? "wss" : "ws"}://${formatHostPort({ host, port })}`));
    }
    return this.#found.has(origin);
  }

  /** HOST:PORT for invites; this host's own loopback only if there is nothing else. */
  addresses(): string[] {
    if (this.#given.size > 0)
      return [...this.#given].map((origin) => formatHostPort(parseOrigin(origin)!)).slice(0, MOST_IN_INVITE);
    const hosts = this.#hosts();
    const outside = hosts.filter((host) => !isLoopback(host) && !isLinkLocal(host));
    const chosen = outside.length > 0 ? outside : hosts.filter(isLoopback);
    return chosen.slice(0, MOST_IN_INVITE).map((host) => formatHostPort({ host, port: this.#options.port }));
  }

  #hosts(): string[] {
    const { host } = this.#options;
    if (!isWildcard(host)) return [canonicalIp(host)];
    return host === "0.0.0.0" ? interfaceAddresses().filter((address) => isIP(address) === 4) : interfaceAddresses();
  }
}

function isWildcard(host: string): boolean {
  return host === "::" || host === "0.0.0.0";
}

function interfaceAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap((addresses) =>
    (addresses ?? []).map(({ address }) => canonicalIp(address)),
  );
}

/** Only good together with an interface's name, which means nothing on another host. */
function isLinkLocal(host: string): boolean {
  return host.startsWith("fe80:") || host.startsWith("169.254.");
}
