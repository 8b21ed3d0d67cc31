import { chownSync, mkdirSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { Capture, type CaptureOptions } from "./capture.ts";
import { type CommandOptions, type CommandResult, requireSuccess, runCommand } from "./command.ts";
import { LabError } from "./lab-error.ts";
import type { Link } from "./link.ts";
import { Program } from "./program.ts";
import { searchPath } from "./tools.ts";
import { NETNS_FOLDER, WORLD_MARK } from "./world.ts";

/** `nobody`: an ordinary user without any privilege. */
export const ORDINARY_UID = 65534;

export interface NodeAddresses {
  ipv4: string[];
  ipv6: string[];
}

export interface Launch {
  cwd?: string;
  /** Added to a small environment: PATH, HOME (the node's own folder), LANG. */
  env?: NodeJS.ProcessEnv;
  /** Runs as this user and group, without capabilities and without a way to get any. Root with all of them otherwise. */
  uid?: number;
}

export type RunOptions = Launch & Omit<CommandOptions, "env">;

export interface SpawnOptions extends Launch {
  /** What errors call the program; its file name otherwise. */
  name?: string;
  stdin?: "pipe";
  /** The program may end by itself; otherwise that is an error when the lab is destroyed. */
  ends?: boolean;
}

/** Binds private files over those of the system, then becomes the command. */
const OVERLAY_SCRIPT = 'while [ "$1" != -- ]; do mount --bind "$1" "$2"; shift 2; done; shift; exec "$@"';

/** Flags of `setpriv` that make a program the ordinary user's. */
export function asUser(uid: number | undefined): string[] {
  if (uid === undefined) return [];
  return [
    `--reuid=${uid}`,
    `--regid=${uid}`,
    "--clear-groups",
    "--inh-caps=-all",
    "--ambient-caps=-all",
    "--bounding-set=-all",
    "--no-new-privs",
  ];
}

/** A machine of the lab: one network namespace, a private folder, programs. */
export class Node {
  readonly name: string;
  /** What `ip netns` calls it. */
  readonly netns: string;
  /** Private to this node and the HOME of its programs; belongs to the ordinary user. */
  readonly folder: string;
  /** Changes where a fault changes them. */
  readonly addresses: NodeAddresses = { ipv4: [], ipv6: [] };
  readonly programs: Program[] = [];
  /** How many times longer than on this host a program may take to start. */
  readonly slowness: number = 1;
  readonly #captures: Capture[] = [];
  #link: Link | undefined;
  readonly #replaced = new Map<string, string>();

  constructor(options: { name: string; netns: string; folder: string }) {
    this.name = options.name;
    this.netns = options.netns;
    this.folder = options.folder;
    mkdirSync(this.folder, { mode: 0o755, recursive: true });
    chownSync(this.folder, ORDINARY_UID, ORDINARY_UID);
  }

  /** The attachment to the Internet, or to the LAN of a home. @throws LabError for the Internet itself, which has none */
  get link(): Link {
    if (this.#link) return this.#link;
    throw new LabError(`${this.name} is attached to nothing`);
  }

  set link(link: Link) {
    this.#link = link;
  }

  /** The first IPv4 address, or an empty text. */
  get ipv4(): string {
    return this.addresses.ipv4[0] ?? "";
  }

  /** The first IPv6 address, or an empty text. */
  get ipv6(): string {
    return this.addresses.ipv6[0] ?? "";
  }

  /** Runs a command to its end, 10 s at most unless told otherwise. Any status is a result. */
  run(command: string, args: string[] = [], options: RunOptions = {}): Promise<CommandResult> {
    return runCommand("nsenter", this.#launch(command, args, options), { ...options, env: this.environment(options) });
  }

  /** What a command writes. @throws LabError unless its status is 0 */
  async read(command: string, args: string[] = [], options: RunOptions = {}): Promise<string> {
    return requireSuccess([command, ...args], options.input, await this.run(command, args, options));
  }

  /** Runs a shell script as root. @throws LabError at its first command that fails */
  script(text: string): Promise<string> {
    return this.read("sh", ["-e"], { input: text });
  }

  /** Starts a program that lives until it is stopped or the lab is destroyed. */
  spawn(command: string, args: string[] = [], options: SpawnOptions = {}): Program {
    const program = Program.start("nsenter", this.#launch(command, args, options), {
      ...options,
      env: this.environment(options),
      name: `${options.name ?? basename(command)} on ${this.name}`,
    });
    this.programs.push(program);
    return program;
  }

  /** Programs started from now on read `text` in place of the file at `path` (`/etc/hosts`), which has to exist. */
  replaceFile(path: string, text: string): void {
    const own = join(this.folder, `replaced-${this.#replaced.size}-${basename(path)}`);
    writeFileSync(own, text);
    this.#replaced.set(path, own);
  }

  /** Records what passes an interface. Resolves when the recording runs. */
  async capture(options: CaptureOptions = {}): Promise<Capture> {
    const capture = await Capture.start(this, options);
    this.#captures.push(capture);
    return capture;
  }

  /** Ends all programs and recordings that were started through this object. */
  async stopAll(): Promise<void> {
    await Promise.all([...this.#captures, ...this.programs].map((one) => one.destroy()));
  }

  #launch(command: string, args: string[], { uid }: Launch): string[] {
    const overlays = [...this.#replaced].flatMap(([path, own]) => [own, path]);
    const overlay =
      overlays.length > 0 ? ["unshare", "--mount", "sh", "-ec", OVERLAY_SCRIPT, "sh", ...overlays, "--"] : [];
    // Whatever becomes of this process, nothing that it started outlives it.
    const launcher = ["setpriv", "--pdeathsig", "KILL", ...asUser(uid), "--"];
    return [`--net=${join(NETNS_FOLDER, this.netns)}`, ...overlay, ...launcher, command, ...args];
  }

  /** The small environment of a program, and what was added to it. */
  protected environment({ env }: Launch): NodeJS.ProcessEnv {
    return { PATH: searchPath(), HOME: this.folder, LANG: "C.UTF-8", [WORLD_MARK]: "1", ...env };
  }
}
