import type { BindAnswer, Binding, BindRequest } from "@isthmus/binding";
import type { Logger } from "@isthmus/service";
import type { BindListener, BindSource } from "./bind-source.ts";
import type { NatbinderMetrics } from "./natbinder-metrics.ts";
import type { OpenSockets } from "./open-sockets.ts";

export interface SystemWideOptions {
  /** In the order in which they are tried; one that ends gives way to the next. */
  sources: readonly BindSource[];
  binding: Binding;
  open: OpenSockets;
  hasGateway: () => boolean;
  metrics: NatbinderMetrics;
  logger: Logger;
}

/** The way in for all programs of this host: the first of several that this host can have. */
export class SystemWide implements BindListener {
  readonly #options: SystemWideOptions;
  readonly #waiting: BindSource[];
  #source: BindSource | undefined;
  #trouble: string | undefined;
  #isStopped = false;

  constructor(options: SystemWideOptions) {
    this.#options = options;
    this.#waiting = [...options.sources];
  }

  /** The one that is active. */
  get source(): BindSource | undefined {
    return this.#source;
  }

  /** Why it is not the first, or none, if it is not. */
  get trouble(): string | undefined {
    return this.#trouble;
  }

  /** Starts the first that can be. That none can be is said, and no error. */
  async start(): Promise<void> {
    for (let next = this.#waiting.shift(); next && !this.#isStopped; next = this.#waiting.shift()) {
      try {
        await next.start(this);
        this.#source = next;
        this.#options.logger.info({ source: next.name }, "binds of all programs are seen");
        this.tell();
        return;
      } catch (error) {
        this.#noteTrouble(next, (error as Error).message);
      }
    }
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#source?.stop();
  }

  /** The gateway, or what is known of its ports, has changed. */
  tell(): void {
    const { binding, hasGateway } = this.#options;
    this.#source?.tell({ hasGateway: hasGateway(), held: binding.held });
  }

  async opened(bind: BindRequest): Promise<BindAnswer> {
    const { binding, open, metrics, logger } = this.#options;
    // Its bind was told of more slowly than its end.
    if (bind.isSettled && open.isGone(bind.socket)) return { answer: "ignored", reason: "no-answer" };
    const startedMs = performance.now();
    const answer = await binding.bind(bind);
    metrics.countBind(answer, bind.isSettled ? undefined : performance.now() - startedMs);
    const { program, pid, protocol, port } = bind;
    logger.debug({ program, pid, protocol, port, ...answer }, "bind");
    return answer;
  }

  closed(namespace: string, socket: string): void {
    this.#options.binding.close(namespace, socket);
  }

  refused({ program, pid, protocol, port }: BindRequest): void {
    const { metrics, logger } = this.#options;
    metrics.countBind({ answer: "failed", holder: undefined });
    logger.debug({ program, pid, protocol, port }, "refused: another host has the port");
  }

  ended(reason: string): void {
    const source = this.#source;
    this.#source = undefined;
    if (source) this.#noteTrouble(source, reason);
    void this.start();
  }

  #noteTrouble({ name }: BindSource, reason: string): void {
    this.#trouble = `${name}: ${reason}`;
    this.#options.logger.warn({ source: name, reason }, "binds of all programs are not seen that way");
  }
}
