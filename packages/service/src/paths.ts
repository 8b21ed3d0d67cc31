import { homedir, tmpdir, userInfo } from "node:os";
import { join } from "node:path";

/**
 * Where a process keeps its data: what systemd gave it, else the user's state folder (XDG Base Directory 0.8).
 * @param name of the process, for example `isthmus-isb`
 */
export function stateFolder(name: string, env: NodeJS.ProcessEnv = process.env): string {
  if (env.STATE_DIRECTORY) return env.STATE_DIRECTORY;
  return join(env.XDG_STATE_HOME ?? join(homedir(), ".local", "state"), name);
}

/** Where a process' socket is: a folder that is the user's own and empty after a restart of the host. */
export function runtimeFolder(name: string, env: NodeJS.ProcessEnv = process.env): string {
  if (env.RUNTIME_DIRECTORY) return env.RUNTIME_DIRECTORY;
  return env.XDG_RUNTIME_DIR ? join(env.XDG_RUNTIME_DIR, name) : join(tmpdir(), `${name}-${userInfo().uid}`);
}

/** Where a process looks for its configuration file when none is named. */
export function configFile(name: string, env: NodeJS.ProcessEnv = process.env): string {
  return join(env.XDG_CONFIG_HOME ?? join(homedir(), ".config"), "isthmus", `${name}.toml`);
}

/** The user daemon's socket, where nothing else is said. */
export function daemonSocket(env: NodeJS.ProcessEnv = process.env): string {
  return env.ISTHMUS_SOCKET ?? join(runtimeFolder("isthmus", env), "daemon.sock");
}
