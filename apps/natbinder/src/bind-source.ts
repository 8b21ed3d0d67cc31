import type { BindAnswer, Binding, BindRequest } from "@isthmus/binding";

/** What a way in tells of. */
export interface BindListener {
  /**
   * A socket has taken a port. Resolves with the answer, after `wait_ms` at the latest, and never rejects. Whoever cannot
   * let the program wait for it looks at it afterwards, or not at all.
   */
  opened(bind: BindRequest): Promise<BindAnswer>;
  /** The socket that was named in {@link opened} holds its port no more. */
  closed(namespace: string, socket: string): void;
  /** A program saw EADDRINUSE, since another host was known to hold the port. */
  refused?(bind: BindRequest): void;
  /** The source has come to its end by itself, and reports nothing any more: its module was unloaded, say. */
  ended(reason: string): void;
}

/** What a way in may have to know. */
export interface BindSourceNews {
  /** Whether a gateway answers: without one, binds are to be as ever. */
  hasGateway: boolean;
  /** Ports that other hosts were seen to hold. */
  held: Binding["held"];
}

/**
 * A way in for all programs of this host, which know nothing of it: it sees binds and closes by itself. At most one is
 * active; `natbinder run` then has nothing to do but to start its program.
 */
export interface BindSource {
  /** As the configuration and `isthmus natbinder status` call it. */
  readonly name: "module" | "cgroup" | "sockets";
  /**
   * Begins to report.
   * @throws Error that says, for the log and for the status, why this host cannot have it; nothing is left behind then
   */
  start(listener: BindListener): Promise<void>;
  /** Binds are as ever from then on. Sockets that were reported stay open, and are not reported as closed. */
  stop(): Promise<void>;
  /** Called after {@link start} once, and whenever something of it has changed. */
  tell(news: BindSourceNews): void;
  /**
   * Whether a socket that this source reported, maybe before a restart of this process, is open still; undefined when the
   * name is none of its own.
   */
  isOpen?(namespace: string, socket: string): boolean | undefined;
  /** Whether it sees the binds of that process; it sees all, if it does not say. */
  covers?(pid: number): boolean;
}
