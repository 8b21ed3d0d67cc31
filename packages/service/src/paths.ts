import { lstatSync, mkdirSync, statSync } from "node:fs";
import { homedir, tmpdir, userInfo } from "node:os";
import { join } from "node:path";

/** An empty variable counts as unset (XDG Base Directory 0.8). */
function variable(env: NodeJS.ProcessEnv, name: string): string | undefined {
  return env[name] || undefined;
}

/**
 * Where a process keeps its data: what systemd gave it, else the user's state folder.
 * @param name of the process, for example `isthmus-isb`
 */
export function stateFolder(name: string, env: NodeJS.ProcessEnv = process.env): string {
  const home = variable(env, "XDG_STATE_HOME") ?? join(homedir(), ".local", "state");
  return variable(env, "STATE_DIRECTORY") ?? join(home, name);
}

/** Where a process' socket is: a folder that is the user's own and empty after a restart of the host. */
export function runtimeFolder(name: string, env: NodeJS.ProcessEnv = process.env): string {
  const given = variable(env, "RUNTIME_DIRECTORY");
  if (given !== undefined) return given;
  const xdg = variable(env, "XDG_RUNTIME_DIR");
  if (xdg !== undefined) return join(xdg, name);
  // A container may run as a user that has no entry among the host's users.
  return join(tmpdir(), `${name}-${process.geteuid?.() ?? userInfo().uid}`);
}

/** Where a process looks for its configuration file when none is named. */
export function configFile(name: string, env: NodeJS.ProcessEnv = process.env): string {
  return join(variable(env, "XDG_CONFIG_HOME") ?? join(homedir(), ".config"), "isthmus", `${name}.toml`);
}

/** The user daemon's socket, where nothing else is said. */
export function daemonSocket(env: NodeJS.ProcessEnv = process.env): string {
  return variable(env, "ISTHMUS_SOCKET") ?? join(runtimeFolder("isthmus", env), "daemon.sock");
}

/** Where a host's own natbinder has its sockets: every user asks there first. */
const SYSTEM_NATBINDER = "/run/isthmus-natbinder";

/** Where a natbinder has its sockets, where nothing else is said. */
export function natbinderFolder(env: NodeJS.ProcessEnv = process.env): string {
  const isSystem = process.geteuid?.() === 0 && variable(env, "XDG_RUNTIME_DIR") === undefined;
  if (isSystem && variable(env, "RUNTIME_DIRECTORY") === undefined) return SYSTEM_NATBINDER;
  return runtimeFolder("isthmus-natbinder", env);
}

/** The admin socket of the natbinder of this host, or else of this user. */
export function natbinderAdminSocket(env: NodeJS.ProcessEnv = process.env): string {
  const given = variable(env, "ISTHMUS_NATBINDER_ADMIN_SOCKET");
  if (given !== undefined) return given;
  const system = join(SYSTEM_NATBINDER, "admin.sock");
  return statSync(system, { throwIfNoEntry: false }) ? system : join(natbinderFolder(env), "admin.sock");
}

/**
 * Makes a folder that is this user's alone, if it is not there.
 * @throws Error when it belongs to somebody else or others may write in it: under /tmp anybody could have made it first
 */
export function ensureOwnFolder(path: string): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  requireOwnFolder(path);
}

/**
 * Whether a folder is like /tmp, where everybody may write but nobody may touch what is another's. What somebody else
 * made there is somebody else's still.
 */
export function isSharedFolder(path: string): boolean {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat !== undefined && stat.uid === 0 && (stat.mode & 0o1000) !== 0;
}

/** @throws Error as {@link ensureOwnFolder}, and when there is no such folder */
export function requireOwnFolder(path: string): void {
  const stat = lstatSync(path);
  const owner = process.geteuid?.() ?? stat.uid;
  if (!stat.isDirectory()) throw new Error(`${path} is not a folder`);
  if (stat.uid !== owner && stat.uid !== 0) throw new Error(`${path} belongs to user ${stat.uid}, not to this one`);
  if ((stat.mode & 0o022) !== 0) throw new Error(`others may write in ${path}: 'chmod 700' it`);
}
