import { readFileSync } from "node:fs";
import { type BindRequest, type HeldPort, irrelevance, type Policy } from "@isthmus/binding";
import type { Logger } from "@isthmus/service";
import type { BindListener, BindSource, BindSourceNews } from "./bind-source.ts";
import { settledBind } from "./settled-bind.ts";
import { type WatchEvent, WatchProgram } from "./watch-program.ts";

/** A process that was killed is started again then; one that cannot be is not tried again. */
const AGAIN_MS = 1000;

export interface CgroupSourceOptions {
  /** Of the control groups of version 2, whose programs are watched: `user.slice`. Empty for all. */
  group: string;
  policy: Policy;
  logger: Logger;
}

/**
 * Sees bind() of all programs of a control group by BPF programs, which cannot wait for an answer: they refuse ports that
 * are known to be another host's, and tell of the others afterwards. The BPF programs belong to a process of its own
 * (natbinder-watch), and are gone with it.
 */
export class CgroupSource implements BindSource {
  readonly name = "cgroup";
  readonly #options: CgroupSourceOptions;
  #program: WatchProgram | undefined;
  #listener: BindListener | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isStopped = false;
  /** Sockets that were reported and are not closed. */
  readonly #open = new Set<string>();
  #held = new Map<string, HeldPort>();

  constructor(options: CgroupSourceOptions) {
    this.#options = options;
  }

  async start(listener: BindListener): Promise<void> {
    this.#listener = listener;
    await this.#launch();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    await this.#program?.stop();
  }

  tell({ hasGateway, held }: BindSourceNews): void {
    const { policy } = this.#options;
    const wanted = new Map<string, HeldPort>();
    for (const one of hasGateway ? held : []) {
      // Ports that are never mapped are none to be refused. Rules for programs are looked at where the program is known.
      if (!isLeftAlone(one, policy)) wanted.set(`${one.protocol} ${one.port}`, one);
    }
    this.#program?.send([
      ...[...this.#held].filter(([name]) => !wanted.has(name)).map(([, one]) => ({ ...one, what: "free" as const })),
      ...[...wanted].filter(([name]) => !this.#held.has(name)).map(([, one]) => ({ ...one, what: "hold" as const })),
    ]);
    this.#held = wanted;
  }

  /** Sockets that neither listen nor are connected are not in every kernel's list, but in this one. */
  isOpen(_namespace: string, socket: string): boolean | undefined {
    return this.#open.has(socket) || undefined;
  }

  covers(pid: number): boolean {
    const group = `/${this.#options.group}/`.replaceAll(/\/+/g, "/");
    try {
      const own = /^0::(.*)$/m.exec(readFileSync(`/proc/${pid}/cgroup`, "utf8"))?.[1] ?? "";
      return `${own}/`.startsWith(group);
    } catch {
      return false;
    }
  }

  /** Resolves when all sockets that have their ports already are reported. */
  async #launch(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    let hasStarted = false;
    const program = new WatchProgram({
      args: this.#arguments(),
      onEvent: (event) => {
        if (event.what === "listed") {
          hasStarted = true;
          resolve();
        } else this.#take(event);
      },
      onEnd: (reason) => {
        if (hasStarted) this.#end(reason);
        else reject(new Error(`binds cannot be watched by BPF: ${reason}`));
      },
    });
    this.#program = program;
    await promise;
    program.send([...this.#held.values()].map((one) => ({ ...one, what: "hold" as const })));
  }

  #end(reason: string): void {
    this.#program = undefined;
    if (this.#isStopped) return;
    this.#options.logger.warn({ reason }, "natbinder-watch has ended: starting it again");
    this.#timer = setTimeout(() => {
      this.#launch().catch((error: Error) => this.#listener?.ended(error.message));
    }, AGAIN_MS);
  }

  #arguments(): string[] {
    const { group, policy } = this.#options;
    return [
      `--cgroup=${group}`,
      `--daemon=${process.pid}`,
      ...(policy.dualStack ? [] : ["--ipv4-only"]),
      ...policy.programs.map(({ program, uid, map }) => `--rule=${Number(map)}/${uid ?? "*"}/${program}`),
    ];
  }

  #take(event: WatchEvent): void {
    const { what, cookie } = event;
    if (what === "bound" || what === "found") {
      this.#open.add(cookie);
      void this.#listener?.opened(bindOf(event));
    } else if (what === "closed") {
      this.#open.delete(cookie);
      this.#listener?.closed("", cookie);
    } else if (what === "refused") {
      this.#listener?.refused?.(bindOf(event));
    } else if (what === "missed") {
      this.#options.logger.warn({}, "some binds could not be told of: looking for them");
    }
  }
}

function bindOf({ family, protocol, port, pid, uid, cookie, program }: WatchEvent): BindRequest {
  return settledBind({ socket: cookie, pid, uid, program, family, protocol, port });
}

function isLeftAlone({ protocol, port }: HeldPort, policy: Policy): boolean {
  const anybody = { family: "ipv4", address: "0.0.0.0", v6only: false, program: "", uid: -1 } as const;
  return irrelevance({ ...anybody, protocol, port }, { ...policy, programs: [] }) !== undefined;
}
