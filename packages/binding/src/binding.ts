import { type Mapping, ownAddresses, type PortMapperEvent, type PortmapCode, PortmapError } from "@isthmus/portmap";
import type { Logger } from "@isthmus/service";
import { type IdealState, nameOf, type Owner, type PortKey } from "./ideal-state.ts";
import { type Bind, type Irrelevant, irrelevance, type Policy } from "./policy.ts";
import { type BindingGateway, PortWorker } from "./port-worker.ts";
import type { StateFile } from "./state-file.ts";

/** What a program may wait in bind(); the Natbinder paper's half second. */
const ANSWER_MS = 500;
const LEASE_S = 3600;
const RECONCILE_MS = 60_000;
const MOST_SOCKETS_PER_USER = 256;
const LIST_TIMEOUT_MS = 30_000;

/** A bind that was seen, and the socket that made it. */
export interface BindRequest extends Bind {
  /** Of the network that the socket is in; empty for this host's own. */
  namespace: string;
  /** Names the socket within its namespace: its cookie. */
  socket: string;
  pid: number;
  /** The program has its port already, whatever the answer is: a conflict is one to wait for, not one to tell of. */
  isSettled?: boolean;
}

/** A port of the gateway that another host has. */
export interface HeldPort {
  protocol: "tcp" | "udp";
  port: number;
  holder: string;
}

/** The paper's three answers, each with its reason. */
export type BindAnswer =
  | { answer: "succeeded" }
  /** The program is to see EADDRINUSE. */
  | { answer: "failed"; holder: string | undefined }
  /** The program goes on as if there were no gateway; `no-answer` and errors are tried again meanwhile. */
  | { answer: "ignored"; reason: Irrelevant | "quota" | "no-answer" | "no-gateway" | PortmapCode };

export interface PortEntry extends PortKey {
  owners: Owner[];
  /** `held`: by another host. `leaving`: nobody wants it, but its mapping may still be there. */
  state: "mapped" | "waiting" | "held" | "leaving";
  /** Seconds; undefined without an end, or without a mapping. */
  leaseLeftSeconds: number | undefined;
  /** Of the newest failure. */
  reason: PortmapCode | undefined;
}

export interface BindingOptions {
  gateway: BindingGateway;
  policy: Policy;
  state: IdealState;
  file: Pick<StateFile, "save" | "flush">;
  logger: Logger;
  /** Tells which sockets are still open; asked once, for what was on disk. */
  whatIsOpen: () => Promise<(key: PortKey, owner: Owner) => boolean>;
  /** @default 3600 */
  leaseSeconds?: number;
  /** @default 500 */
  answerMs?: number;
  /** Between two comparisons of what is with what ought to be. @default 60000 */
  reconcileMs?: number;
  /** Of those whose ports are mapped. @default 256 */
  mostSocketsPerUser?: number;
  /** Ports have been mapped, or are not any more. */
  onChange?: () => void;
  /** {@link Binding.held} has changed. */
  onHeldChange?: () => void;
  /** Addresses whose entries at the gateway are this host's. @default all of this host */
  ownAddresses?: () => readonly string[];
}

/**
 * Natbinder's body: takes binds and closes, decides, and keeps the gateway as it ought to be. Every port is looked after
 * on its own, so that a slow call of one holds up no other.
 */
export class Binding {
  readonly #options: BindingOptions;
  readonly #workers = new Map<string, PortWorker>();
  #timer: NodeJS.Timeout | undefined;
  #reconciling: Promise<void> | undefined;
  /** By the names of their ports. */
  #held = new Map<string, HeldPort>();
  readonly #stopping = new AbortController();

  constructor(options: BindingOptions) {
    this.#options = options;
  }

  /** Takes up what was on disk: sockets that are gone are closes that nobody heard. */
  async start(): Promise<void> {
    const { state, whatIsOpen } = this.#options;
    const isOpen = await whatIsOpen();
    for (const { key, owners } of state.ports) {
      for (const owner of owners) if (!isOpen(key, owner)) state.remove(key.namespace, owner.socket);
      this.#workerFor(key, true);
    }
    this.#save();
    await this.reconcile();
  }

  /** Ends all that this object does by itself. Mappings stay, and are on disk. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    clearTimeout(this.#timer);
    for (const worker of this.#workers.values()) worker.stop();
    await this.idle();
    await this.#options.file.flush();
  }

  /** Settles when no call is under way. */
  async idle(): Promise<void> {
    await this.#reconciling;
    await Promise.all([...this.#workers.values()].map((worker) => worker.idle()));
  }

  /** The answer, after `answerMs` at the latest. The port must be taken on this host already. */
  async bind(request: BindRequest): Promise<BindAnswer> {
    const { policy, state, mostSocketsPerUser = MOST_SOCKETS_PER_USER } = this.#options;
    const reason = irrelevance(request, policy);
    if (reason !== undefined || request.protocol === "other") {
      return { answer: "ignored", reason: reason ?? "other-protocol" };
    }
    const { namespace, protocol, port, socket, pid, uid, program } = request;
    const key: PortKey = { namespace, protocol, port };
    if (state.count(uid) >= mostSocketsPerUser) return { answer: "ignored", reason: "quota" };
    return this.#take(key, { socket, pid, uid, program, since: now() }, request.isSettled);
  }

  /** As {@link bind}, for a port that somebody wants mapped whatever the policy says, until {@link close}. */
  map(key: PortKey, owner: Pick<Owner, "socket" | "program">): Promise<BindAnswer> {
    return this.#take(key, { ...owner, pid: 0, uid: 0, since: now() });
  }

  /** The socket is closed, however that came about. A socket that was never told of is none of ours. */
  close(namespace: string, socket: string): void {
    const key = this.#options.state.remove(namespace, socket);
    if (!key) return;
    this.#save();
    if (this.#options.state.owners(key).length === 0) this.#workers.get(nameOf(key))?.drop();
  }

  /** For `onEvent` of the PortMapper. */
  readonly gatewayEvent = (event: PortMapperEvent): void => {
    if (event.event === "gone") this.#hold([]);
    if (event.event !== "found" && event.event !== "restarted") return;
    this.#doubtAll();
    void this.reconcile();
  };

  /** Compares what the gateway has with what ought to be. One comparison at a time. */
  reconcile(): Promise<void> {
    this.#reconciling ??= this.#compare().finally(() => {
      this.#reconciling = undefined;
      clearTimeout(this.#timer);
      if (this.#stopping.signal.aborted) return;
      this.#timer = setTimeout(() => void this.reconcile(), this.#options.reconcileMs ?? RECONCILE_MS).unref();
    });
    return this.#reconciling;
  }

  /** Ports that other hosts were seen to hold: for ways in that must refuse without asking. */
  get held(): readonly HeldPort[] {
    return [...this.#held.values()];
  }

  get entries(): PortEntry[] {
    return this.#options.state.ports.map(({ key, owners }) => {
      const worker = this.#workers.get(nameOf(key));
      const { expiresAtMs, error } = worker ?? {};
      return {
        ...key,
        owners,
        state: owners.length === 0 ? "leaving" : stateOf(worker),
        leaseLeftSeconds: expiresAtMs === undefined ? undefined : Math.max(0, (expiresAtMs - Date.now()) / 1000),
        reason: error?.code,
      };
    });
  }

  async #take(key: PortKey, owner: Owner, isSettled = false): Promise<BindAnswer> {
    const { state, gateway, answerMs = ANSWER_MS } = this.#options;
    if (!state.holds(key, owner.socket)) {
      // One that was to have another port, and did not get it, tries again.
      this.close(key.namespace, owner.socket);
      state.add(key, owner);
      this.#save();
    }
    const worker = this.#workerFor(key, false);
    if (worker.isMapped && worker.isWanted) return { answer: "succeeded" };
    const attempt = worker.want();
    if (!gateway.gateway) return { answer: "ignored", reason: "no-gateway" };
    if (!(await inTime(attempt, answerMs))) return { answer: "ignored", reason: "no-answer" };
    return this.#answer(worker, key, owner, isSettled);
  }

  #answer(worker: PortWorker, { namespace }: PortKey, { socket }: Owner, isSettled: boolean): BindAnswer {
    if (worker.isMapped) return { answer: "succeeded" };
    const { error } = worker;
    if (error?.code !== "conflict" || isSettled) return { answer: "ignored", reason: error?.code ?? "no-answer" };
    this.close(namespace, socket);
    return { answer: "failed", holder: error.holder };
  }

  #workerFor(key: PortKey, isOld: boolean): PortWorker {
    const name = nameOf(key);
    const existing = this.#workers.get(name);
    if (existing) return existing;
    const { gateway, leaseSeconds = LEASE_S } = this.#options;
    const worker = new PortWorker({
      key,
      gateway,
      leaseSeconds,
      isOld,
      description: () => this.#description(key),
      onChange: () => {
        this.#learnHolder(worker);
        this.#tidy(worker);
        this.#options.onChange?.();
      },
    });
    this.#workers.set(name, worker);
    return worker;
  }

  /** What an attempt has shown, until the gateway's list says more. */
  #learnHolder({ key: { protocol, port }, error, isMapped }: PortWorker): void {
    const name = heldName(protocol, port);
    if (error?.code === "conflict" && !this.#held.has(name)) {
      this.#held.set(name, { protocol, port, holder: error.holder ?? "" });
    } else if (!isMapped || !this.#held.delete(name)) return;
    this.#options.onHeldChange?.();
  }

  #hold(ports: readonly HeldPort[]): void {
    const held = new Map(ports.map((one) => [heldName(one.protocol, one.port), one]));
    const isAsBefore =
      held.size === this.#held.size && [...held].every(([name, { holder }]) => this.#held.get(name)?.holder === holder);
    this.#held = held;
    if (!isAsBefore) this.#options.onHeldChange?.();
  }

  /** A port that is over is forgotten, unless somebody has come to want it meanwhile. */
  #tidy(worker: PortWorker): void {
    const { state } = this.#options;
    if (!worker.isOver || state.owners(worker.key).length > 0) return;
    if (this.#workers.get(nameOf(worker.key)) !== worker) return;
    worker.stop();
    this.#workers.delete(nameOf(worker.key));
    state.forget(worker.key);
    this.#save();
  }

  async #compare(): Promise<void> {
    const { gateway, state, logger, ownAddresses: own = ownAddresses } = this.#options;
    if (!gateway.gateway) {
      this.#wishAll();
      return;
    }
    if (!gateway.gateway.capabilities.list) {
      // To map again is the only way to see.
      this.#hold([]);
      this.#doubtAll();
      return;
    }
    const startedMs = performance.now();
    let entries: Mapping[];
    try {
      entries = await gateway.list({
        timeoutMs: LIST_TIMEOUT_MS,
        background: true,
        signal: this.#stopping.signal,
      });
    } catch (err) {
      if (this.#stopping.signal.aborted) return;
      logger.warn(
        { code: err instanceof PortmapError ? err.code : undefined },
        "the gateway's mappings cannot be listed",
      );
      this.#wishAll();
      return;
    }
    const addresses = own();
    const isOurs = ({ internalAddress }: Mapping) => addresses.includes(internalAddress);
    const foreign = entries.filter((entry) => !isOurs(entry));
    this.#hold(
      foreign.map(({ protocol, externalPort: port, internalAddress: holder }) => ({ protocol, port, holder })),
    );
    this.#takeUpForgotten(entries.filter(isOurs));
    const byPort = new Map(entries.map((entry) => [`${entry.protocol} ${entry.externalPort}`, entry]));
    for (const worker of this.#workers.values()) {
      const { protocol, port } = worker.key;
      const entry = byPort.get(`${protocol} ${port}`);
      worker.wish(state.owners(worker.key).length > 0);
      const leadsHere = entry !== undefined && isOurs(entry) && entry.internalPort === port && entry.enabled;
      worker.confirm(entry && isOurs(entry) && !leadsHere ? undefined : entry, leadsHere, startedMs);
    }
    this.#wishAll();
    logger.debug({ ports: state.ports.length, entries: entries.length }, "compared");
  }

  /** Mappings with our mark that nobody knows of: made right before a crash. */
  #takeUpForgotten(entries: Mapping[]): void {
    const mark = `[${this.#options.state.tag}]`;
    for (const { protocol, externalPort: port, description } of entries) {
      const key: PortKey = { namespace: "", protocol, port };
      if (description.endsWith(mark) && !this.#workers.has(nameOf(key))) this.#workerFor(key, true).drop();
    }
  }

  /** Nothing known of the gateway counts any more. */
  #doubtAll(): void {
    const { state } = this.#options;
    for (const worker of [...this.#workers.values()]) {
      worker.wish(state.owners(worker.key).length > 0);
      worker.doubt();
    }
  }

  /** Tells every worker what is wanted, and lets it see to it. */
  #wishAll(): void {
    const { state } = this.#options;
    for (const worker of [...this.#workers.values()]) {
      if (state.owners(worker.key).length > 0) {
        if (!worker.isMapped) void worker.want();
      } else worker.drop();
    }
  }

  #description({ namespace, protocol, port }: PortKey): string {
    const { state } = this.#options;
    const [first] = state.owners({ namespace, protocol, port });
    return `natbinder ${first?.program ?? ""} [${state.tag}]`;
  }

  #save(): void {
    this.#options.file.save(this.#options.state);
  }
}

function heldName(protocol: string, port: number): string {
  return `${protocol} ${port}`;
}

/** Seconds since 1970. */
function now(): number {
  return Math.floor(Date.now() / 1000);
}

function stateOf(worker: PortWorker | undefined): PortEntry["state"] {
  if (worker?.isMapped) return "mapped";
  return worker?.error?.code === "conflict" ? "held" : "waiting";
}

/** Whether the promise settles within that time. */
async function inTime(promise: Promise<void>, timeoutMs: number): Promise<boolean> {
  const { promise: late, resolve } = Promise.withResolvers<boolean>();
  const timer = setTimeout(resolve, timeoutMs, false);
  const isInTime = await Promise.race([promise.then(() => true), late]);
  clearTimeout(timer);
  return isInTime;
}
