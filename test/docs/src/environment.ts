/** What defaults depend on, as the pages show it: the same on every host, and readable. */
const SHOWN: Record<string, string | undefined> = {
  XDG_STATE_HOME: "~/.local/state",
  XDG_RUNTIME_DIR: "$XDG_RUNTIME_DIR",
  STATE_DIRECTORY: undefined,
  RUNTIME_DIRECTORY: undefined,
  ISTHMUS_SOCKET: undefined,
  ISTHMUS_NATBINDER_ADMIN_SOCKET: undefined,
};

/** Runs something that asks the environment where files belong. */
export async function withShownFolders<T>(run: () => Promise<T>): Promise<T> {
  const before = Object.keys(SHOWN).map((name) => [name, process.env[name]] as const);
  set(Object.entries(SHOWN));
  try {
    return await run();
  } finally {
    set(before);
  }
}

function set(variables: Iterable<readonly [string, string | undefined]>): void {
  for (const [name, value] of variables) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
}
