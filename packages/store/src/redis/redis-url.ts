import { IsthmusError } from "@isthmus/protocol";

export interface RedisNode {
  host: string;
  port: number;
}

/** Where the Redis is and how to log in, as one URL says it. */
export interface RedisTarget {
  kind: "single" | "sentinel" | "cluster";
  tls: boolean;
  /** One for `single`; for the others those that are asked where the data is. */
  nodes: RedisNode[];
  username?: string;
  password?: string;
  /** Sentinels have their own; without it they are asked without one. */
  sentinelPassword?: string;
  /** The master's name at its Sentinels. */
  master?: string;
  db: number;
  /** Several installations share one Redis under different names. */
  keyspace: string;
}

const FORM =
  /^redis(?<tls>s)?(?:\+(?<kind>sentinel|cluster))?:\/\/(?:(?<login>[^@/]*)@)?(?<hosts>[^/?]*)(?<path>\/[^?]*)?(?:\?(?<query>.*))?$/;
const HOST = /^(?:\[(?<v6>[0-9a-fA-F:.]+)\]|(?<name>[^:[\]]+))(?::(?<port>\d{1,5}))?$/;

const DEFAULT_PORT = { single: 6379, sentinel: 26_379, cluster: 6379 };

export function isRedisUrl(url: string): boolean {
  return /^rediss?(\+\w+)?:/.test(url);
}

/**
 * `redis[s]://[[user]:password@]host[:port][/db]`,
 * `redis[s]+sentinel://[[user]:password@]host[:port],.../master-name[/db]` or
 * `redis[s]+cluster://[[user]:password@]host[:port],...`; behind a `?` may follow `keyspace=NAME` and
 * `sentinel-password=TEXT`.
 *
 * @throws IsthmusError `bad-request` that repeats nothing of the URL that may be secret
 */
export function parseRedisUrl(url: string): RedisTarget {
  const match = FORM.exec(url);
  if (!match) throw wrong("it has not the form redis://[user:password@]host:port");
  const { tls, login, hosts = "", path = "", query = "", ...groups } = match.groups!;
  const kind = (groups.kind ?? "single") as RedisTarget["kind"];
  const nodes = hosts.split(",").map((text) => parseNode(text, DEFAULT_PORT[kind]));
  if (kind === "single" && nodes.length > 1) throw wrong("several hosts need redis+sentinel:// or redis+cluster://");
  return {
    kind,
    tls: tls !== undefined,
    nodes,
    ...parseLogin(login),
    ...parsePath(kind, path),
    ...parseQuery(kind, query),
  };
}

/** The addresses, without a secret: for logs and messages. */
export function describeTarget({ kind, nodes, master }: RedisTarget): string {
  const hosts = nodes.map(({ host, port }) => (host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`)).join(",");
  if (kind === "sentinel") return `Redis '${master}' by the Sentinels ${hosts}`;
  return kind === "cluster" ? `Redis Cluster ${hosts}` : `Redis ${hosts}`;
}

function parseNode(text: string, defaultPort: number): RedisNode {
  const groups = HOST.exec(text)?.groups;
  const port = Number(groups?.port ?? defaultPort);
  if (!groups || port < 1 || port > 65_535) throw wrong(`'${text}' is not of the form host:port`);
  return { host: (groups.v6 ?? groups.name)!, port };
}

function parseLogin(login: string | undefined): Pick<RedisTarget, "username" | "password"> {
  if (login === undefined || login === "") return {};
  const colon = login.indexOf(":");
  if (colon < 0) throw wrong("before the @ stands user:password or :password");
  const username = decode(login.slice(0, colon));
  const password = decode(login.slice(colon + 1));
  return username === "" ? { password } : { username, password };
}

function parsePath(kind: RedisTarget["kind"], path: string): Pick<RedisTarget, "master" | "db"> {
  const parts = path.split("/").slice(1);
  const master = kind === "sentinel" ? decode(parts.shift() ?? "") : undefined;
  if (master === "") throw wrong("behind the Sentinels stands /master-name");
  const [db = "", ...rest] = parts;
  if (!/^\d{0,5}$/.test(db) || rest.length > 0) throw wrong("the database is a number");
  if (kind === "cluster" && Number(db) !== 0) throw wrong("a cluster has one database only; ?keyspace=NAME divides it");
  return { ...(master !== undefined && { master }), db: Number(db) };
}

function parseQuery(kind: RedisTarget["kind"], query: string): Pick<RedisTarget, "keyspace" | "sentinelPassword"> {
  const settings = new URLSearchParams(query);
  const { keyspace = "store", "sentinel-password": sentinelPassword, ...unknown } = Object.fromEntries(settings);
  const [name] = Object.keys(unknown);
  if (name !== undefined) throw wrong(`'${name}' is not a setting`);
  if (!/^[\w.-]{1,64}$/.test(keyspace)) throw wrong("a keyspace is 1 to 64 letters, digits, '_', '.' or '-'");
  if (sentinelPassword === undefined) return { keyspace };
  if (kind !== "sentinel") throw wrong("sentinel-password is for redis+sentinel://");
  return { keyspace, sentinelPassword };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw wrong("a % is followed by two hexadecimal digits");
  }
}

function wrong(why: string): IsthmusError {
  return new IsthmusError("bad-request", `the store's Redis URL is wrong: ${why}`);
}
