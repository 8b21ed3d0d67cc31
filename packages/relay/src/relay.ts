import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type Capabilities,
  type DataPath,
  HostLock,
  type OpenedDataPath,
  type OpenOptions,
  openDataPath,
  SocketSplicer,
  SpliceTally,
  wildcards,
} from "@isthmus/datapath";
import type { Code, IstAddress } from "@isthmus/protocol";
import {
  type Identity,
  type Logger,
  loadCertificate,
  loadOrCreateCertificate,
  loadOrCreateIdentity,
  type Metrics,
} from "@isthmus/service";
import { SessionGate } from "@isthmus/session";
import { openStore } from "@isthmus/store";
import { publicAddresses } from "./addresses.ts";
import type { Allocation } from "./allocations/allocation.ts";
import { Allocations } from "./allocations/allocations.ts";
import { BrokerFiles } from "./brokers/broker-files.ts";
import { type BrokerInvite, BrokerSession, type Load } from "./brokers/broker-session.ts";
import type { BrokerConfig, RelayConfig } from "./config.ts";
import { daemonSessions } from "./daemons/daemon-sessions.ts";
import { FrontDoor } from "./door/front-door.ts";
import { PendingConnections } from "./door/pending-connections.ts";
import { RelayMetrics } from "./relay-metrics.ts";
import { StreamEndpoint } from "./stream/stream-endpoint.ts";

/** New sessions of one source that may come at once, in seconds' worth of the rate. */
const CONNECT_BURST_S = 10;
/** What a data path that is away holds. */
const NOTHING = { cells: 0, splices: 0, pureSplices: 0 };
/** How often a draining relay looks whether its splices have finished. */
const DRAIN_LOOK_MS = 50;

export interface RelayOptions {
  config: RelayConfig;
  logger: Logger;
  /** Of part `ist`; one relay's alone. */
  metrics: Metrics;
  /** Makes the data path; by default the driver that the configuration names. */
  dataPath?: (splicer: SocketSplicer) => DataPath;
}

/** What an operator wants to know of a running relay. */
export interface RelayStatus {
  key: string;
  addresses: string[];
  port: number;
  /** What moves the bytes, why that, what it can do, and what keeps it from working at this moment. */
  dataPath: { driver: string; reason: string; capabilities: Capabilities; problem?: string };
  brokers: { fingerprint: string; up: boolean; problem?: string }[];
  draining: boolean;
  sessions: number;
  allocations: number;
  cells: number;
  /** At cells and at the stream endpoint. */
  splices: number;
  /** Those of them whose ports pass unchanged (Pure TCP Splice). */
  pureSplices: number;
}

/** What a started relay consists of. */
interface Running {
  identity: Identity;
  address: IstAddress;
  port: number;
  opened: OpenedDataPath;
  splicer: SocketSplicer;
  stream: SpliceTally;
  allocations: Allocations;
  endpoint: StreamEndpoint;
  sessions: { readonly size: number };
  pending: PendingConnections;
  brokers: BrokerSession[];
}

/**
 * An IST: takes allocations from its ISBs, lets the daemons of each meet at cells and at the stream endpoint, and passes
 * their control messages. Several can run in one process; each has a data folder, a port and a lock name of its own.
 */
export class Relay {
  readonly #options: RelayOptions;
  readonly #metrics: RelayMetrics;
  /** What undoes the steps of the start, in their order. */
  readonly #undo: (() => unknown)[] = [];
  #running: Running | undefined;
  #load: Load = { splices: 0, bytesPerSecond: 0 };
  /** Why the data path gave no counters when it was last asked. */
  #complaint: string | undefined;
  #measured = { bytes: 0, at: performance.now() };
  #starting: Promise<void> | undefined;
  #stopping: Promise<void> | undefined;

  constructor(options: RelayOptions) {
    this.#options = options;
    this.#metrics = new RelayMetrics(options.metrics, () => {
      const running = this.#running;
      return (
        running && {
          sessions: running.sessions.size,
          allocations: running.allocations.size,
          brokersUp: running.brokers.filter(({ isUp }) => isUp).length,
          draining: running.allocations.draining,
          pendingConnections: running.pending.size,
          streamHalves: running.endpoint.size,
          dataPath: { driver: running.opened.capabilities.name, why: running.opened.reason },
        }
      );
    });
  }

  /** @throws Error that says what keeps the IST from running here; nothing is left behind then */
  start(): Promise<void> {
    this.#starting ??= this.#start();
    return this.#starting;
  }

  /**
   * Takes nothing new, lets splices finish for a while, ends the others (`drained`) and lets go of everything.
   * Allocations stay on disk: the next start goes on with them.
   */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  /** Resets every splice at once, without waiting for anything: for a process that has no time left. */
  abort(): void {
    this.#endSplices("drained");
  }

  /** How daemons reach this IST. @throws Error before the start */
  get address(): IstAddress {
    if (!this.#running) throw new Error("the relay is not running");
    return this.#running.address;
  }

  /** Of the session and stream endpoint. @throws Error before the start */
  get port(): number {
    if (!this.#running) throw new Error("the relay is not running");
    return this.#running.port;
  }

  /** How it is, for its operator; nothing before the start. */
  async status(): Promise<RelayStatus | undefined> {
    const running = this.#running;
    if (!running) return undefined;
    const { opened, allocations, sessions, stream, address, port } = running;
    const counted = await opened.dataPath.stats().catch((error: Error) => error);
    const why = counted instanceof Error ? counted.message : opened.dataPath.problem;
    const problem = why === undefined ? {} : { problem: why };
    const { cells, splices, pureSplices } = counted instanceof Error ? NOTHING : counted;
    const { capabilities, reason } = opened;
    return {
      key: address.key,
      addresses: address.addresses,
      port,
      dataPath: { driver: capabilities.name, reason, capabilities, ...problem },
      brokers: running.brokers.map(({ fingerprint, isUp, problem }) => ({
        fingerprint,
        up: isUp,
        ...(isUp || !problem ? {} : { problem: problem.message }),
      })),
      draining: allocations.draining,
      sessions: sessions.size,
      allocations: allocations.size,
      cells,
      splices: splices + stream.splices,
      pureSplices,
    };
  }

  /** What keeps the IST from doing its work, or nothing. */
  get problem(): string | undefined {
    if (!this.#running) return "the data path is not open";
    const { brokers, opened } = this.#running;
    if (brokers.length === 0) return "no ISB is configured: join one by an invite";
    if (brokers.some(({ isUp }) => isUp)) return opened.dataPath.problem;
    const reasons = brokers.map(({ fingerprint, problem }) => `${fingerprint}: ${problem?.message ?? "connecting"}`);
    return `no session to an ISB is up (${reasons.join("; ")})`;
  }

  async #start(): Promise<void> {
    try {
      this.#running = await this.#open();
    } catch (error) {
      await this.#unwind();
      throw error;
    }
    const { address, opened, port } = this.#running;
    const { logger } = this.#options;
    const { name } = opened.capabilities;
    logger.info({ addresses: address.addresses, port, dataPath: name, key: address.key }, "IST is up");
  }

  async #open(): Promise<Running> {
    const { config, logger } = this.#options;
    const lock = await HostLock.take(config.lock);
    this.#undo.push(() => lock.release());
    const store = await openStore(join(config.data, "store"), { logger });
    this.#undo.push(() => store.close());
    const identity = loadOrCreateIdentity(join(config.data, "ist-key.pem"));
    const splicer = new SocketSplicer();
    const opened = await this.#openDataPath(splicer);
    const { dataPath, capabilities, reason } = opened;
    logger.info({ dataPath: capabilities.name, reason }, "data path is open");
    this.#undo.push(() => dataPath.close());

    const brokers: BrokerSession[] = [];
    const allocations = new Allocations({
      settings: {
        joinMs: config.allocations.join_seconds * 1000,
        goneMs: config.allocations.gone_seconds * 1000,
        most: config.allocations.most,
      },
      cellsAnswerMs: config.sessions.cells_answer_seconds * 1000,
      dataPath,
      pure: capabilities.pure && config.data_path.pure === "auto",
      splicer,
      store,
      logger,
      onFreed: (allocation, code, byBroker) => this.#freed(allocation, code, byBroker),
      countRefused: (code) => this.#metrics.countRefused("leg", code),
      onChange: () => {
        for (const broker of brokers) broker.changed();
      },
    });
    this.#undo.push(() => allocations.stop());
    await allocations.restore();
    allocations.start();

    const stream = new SpliceTally();
    const endpoint = new StreamEndpoint({
      allocations,
      splicer,
      tally: stream,
      halfMs: config.connections.stream_half_seconds * 1000,
      logger,
      countRefused: (code) => this.#metrics.countRefused("leg", code),
    });
    this.#undo.push(() => endpoint.close("shutting-down"));
    const sessions = daemonSessions({
      allocations,
      heartbeatMs: config.sessions.heartbeat_seconds * 1000,
      requestsPerSecond: config.sessions.requests_per_second,
      controlFramesPerSecond: config.sessions.control_frames_per_second,
      logger,
      countRefused: this.#metrics.countRefused,
      observeFrame: this.#metrics.countFrame,
      onClosed: this.#metrics.countSessionClosed,
    });
    const origins = new Set<string>();
    const perSecond = config.sessions.connects_per_second;
    const gate = new SessionGate({
      role: "ist",
      identity,
      isOwnOrigin: (origin) => origins.has(origin),
      connectRate: { perSecond, burst: perSecond * CONNECT_BURST_S },
      maxSessions: config.sessions.most,
      servers: [sessions],
      logger,
      onRefused: (code) => this.#metrics.countRefused("login", code),
    });
    this.#undo.push(() => gate.close());
    const { tls } = config;
    const certificate =
      tls.cert !== undefined && tls.key !== undefined
        ? loadCertificate(tls.cert, tls.key)
        : await loadOrCreateCertificate(config.data, config.name);
    const pending = new PendingConnections(config.connections.most_pending, config.connections.most_pending_per_source);
    const door = new FrontDoor({
      addresses: config.listen.addresses.length > 0 ? config.listen.addresses : await wildcards(),
      port: config.listen.port,
      certificate,
      insecure: config.insecure,
      pending,
      greetingMs: config.connections.greeting_seconds * 1000,
      handshakeMs: config.connections.handshake_seconds * 1000,
      onLeg: (socket, header, settled) => endpoint.accept(socket, header, settled),
      onUpgrade: gate.handleUpgrade,
      countRefused: (code) => this.#metrics.countRefused("connection", code),
    });
    const port = await door.open();
    this.#undo.push(() => door.close());

    const addresses = publicAddresses(config.public, port);
    for (const host of addresses) {
      origins.add(`wss://${host}`);
      origins.add(`ws://${host}`);
    }
    const pin = !config.insecure && (tls.pin ?? tls.cert === undefined);
    const address: IstAddress = {
      key: identity.publicKey,
      name: config.name,
      addresses,
      secure: !config.insecure,
      ...(pin ? { certificate: certificate.fingerprint } : {}),
    };
    const boot = randomBytes(8).toString("hex");
    for (const { broker, invite } of this.#brokers()) {
      const session = new BrokerSession({
        broker,
        identity,
        boot,
        address,
        dataPath: capabilities.name,
        allocations,
        load: () => this.#load,
        ...(invite ? { invite } : {}),
        logger: logger.child({ isb: broker.fingerprint }),
      });
      brokers.push(session);
      session.start();
      this.#undo.push(() => session.stop());
    }
    const timer = setInterval(() => void this.#tick(), config.load_seconds * 1000);
    this.#undo.push(() => clearInterval(timer));
    return {
      identity,
      address,
      port,
      opened,
      splicer,
      stream,
      allocations,
      endpoint,
      sessions,
      pending,
      brokers,
    };
  }

  async #openDataPath(splicer: SocketSplicer): Promise<OpenedDataPath> {
    const { config, logger, dataPath: make } = this.#options;
    const { driver, addresses: bind, ports, ebpf_splices: mostSplices, udp_idle_seconds } = config.data_path;
    const open: OpenOptions = {
      ports,
      udpIdleMs: udp_idle_seconds * 1000,
      onEvent: (event) => {
        this.#running?.allocations.dataPathEvent(event);
        if (event.event === "paired") logger.debug(event, "splice paired");
        else if (event.event === "closed" && event.splice !== undefined) logger.debug(event, "splice closed");
      },
    };
    if (!make) return openDataPath({ driver, logger, splicer, bind, mostSplices }, open);
    const dataPath = make(splicer);
    return { dataPath, capabilities: await dataPath.open(open), reason: "this process brought its own" };
  }

  /** The ISBs of configuration and data folder; the configuration's word counts where both name one. */
  #brokers(): { broker: BrokerConfig; invite?: BrokerInvite }[] {
    const { config } = this.#options;
    const files = new BrokerFiles(config.data);
    if (config.registration !== undefined) files.join(config.registration);
    const configured = new Set(config.isbs.map(({ fingerprint }) => fingerprint));
    const joined = files.all().filter(({ fingerprint }) => !configured.has(fingerprint));
    return [
      ...config.isbs.map((broker) => ({ broker })),
      ...joined.map((broker) => {
        if (broker.registered) return { broker };
        return { broker, invite: { token: broker.invite, used: () => files.registered(broker) } };
      }),
    ];
  }

  #freed(allocation: Allocation, code: Code, byBroker: boolean): void {
    this.#metrics.countFreed(code);
    this.#running?.endpoint.end(allocation, code);
    if (byBroker) return;
    const broker = this.#running?.brokers.find(({ fingerprint }) => fingerprint === allocation.broker);
    broker?.released(allocation.id, code);
  }

  /** Reads the counters of data path and stream endpoint, and tells the ISBs the load. */
  async #tick(): Promise<void> {
    const running = this.#running;
    if (!running) return;
    try {
      await this.#measure(running);
      this.#complaint = undefined;
    } catch (error) {
      const { message } = error as Error;
      // It is asked again and again, and may go on saying the same.
      if (message !== this.#complaint) this.#options.logger.warn({ err: error }, "the data path gives no counters");
      this.#complaint = message;
    }
    for (const broker of running.brokers) broker.tellLoad();
  }

  async #measure({ opened, stream }: Running): Promise<void> {
    this.#metrics.take(await opened.dataPath.stats(), stream);
    const { splices, bytes } = this.#metrics;
    const now = performance.now();
    const seconds = (now - this.#measured.at) / 1000;
    this.#load = { splices, bytesPerSecond: Math.round((bytes - this.#measured.bytes) / seconds) };
    this.#measured = { bytes, at: now };
  }

  async #stop(): Promise<void> {
    await this.#starting?.catch(() => undefined);
    const running = this.#running;
    if (running) {
      running.allocations.drain();
      await this.#drain(running);
      this.#endSplices("drained");
      await this.#tick();
    }
    await this.#unwind();
    this.#running = undefined;
  }

  /** Waits for TCP splices to finish, as long as it may. UDP splices never do, and some others need not. */
  async #drain({ opened, stream, allocations }: Running): Promise<void> {
    const { config, logger } = this.#options;
    const deadline = performance.now() + config.drain_seconds * 1000;
    logger.info({ allocations: allocations.size }, "draining");
    for (;;) {
      const left = stream.splices + (await splicesAtStake(opened));
      if (left === 0 || performance.now() >= deadline) return;
      await sleep(DRAIN_LOOK_MS);
    }
  }

  /** What survives a restart in the data path is left to it. */
  #endSplices(code: Code): void {
    if (!this.#running) return;
    const { allocations, splicer, opened } = this.#running;
    const { dataPath, capabilities } = opened;
    for (const id of allocations.ids()) {
      splicer.close(id, code);
      if (!capabilities.survivesRestart) void dataPath.release(id, code).catch(() => undefined);
    }
  }

  async #unwind(): Promise<void> {
    for (const undo of this.#undo.splice(0).reverse()) {
      try {
        await undo();
      } catch (error) {
        this.#options.logger.warn({ err: error }, "a part of the relay did not stop cleanly");
      }
    }
  }
}

/** TCP splices that end with this process. */
async function splicesAtStake({ dataPath, capabilities }: OpenedDataPath): Promise<number> {
  if (capabilities.survivesRestart) return 0;
  const { splices, udpSplices } = await dataPath.stats();
  return splices - udpSplices;
}
