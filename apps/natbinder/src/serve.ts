import { DaemonClient } from "@isthmus/agent/client";
import {
  Binding,
  IdealState,
  type Owner,
  type Policy,
  type PortKey,
  policySchema,
  ReachCheck,
  type ReachCheckOptions,
  StateFile,
} from "@isthmus/binding";
import { HostLock } from "@isthmus/datapath";
import { PortMapper } from "@isthmus/portmap";
import { createLogger, type Logger, listenOnSocket, Metrics, stopOnSignals } from "@isthmus/service";
import { createAdminApi } from "./admin-api.ts";
import { AskServer } from "./ask-server.ts";
import type { BindSource } from "./bind-source.ts";
import { CgroupSource } from "./cgroup-source.ts";
import { type Config, usualDaemonSocket } from "./config.ts";
import { ModuleSource } from "./module-source.ts";
import { NatbinderMetrics } from "./natbinder-metrics.ts";
import { OpenSockets } from "./open-sockets.ts";
import { PageServer } from "./page-server.ts";
import { SocketsSource } from "./sockets-source.ts";
import { StatusReport } from "./status.ts";
import { Sweep } from "./sweep.ts";
import { SystemWide } from "./system-wide.ts";

/** Two would take each other's mappings for forgotten ones. */
const LOCK = "isthmus-natbinder";

function policyOf({ dual_stack, exclude, program }: Config): Policy {
  return policySchema.parse({ dualStack: dual_stack, exclusions: exclude, programs: program });
}

/** How the ISB is asked about a port: by the user daemon, if one is to be asked. */
function probeBy({ daemon_socket: socket }: Config): ReachCheckOptions["ask"] {
  if (socket === "") return undefined;
  // Whoever names another socket answers for whose it is; the usual one has to be this user's own.
  const daemon = new DaemonClient(socket, { isSystem: socket !== usualDaemonSocket() });
  return (request, signal) => daemon.call("probe", request, { signal });
}

/** The ways in for all programs that the configuration asks for, the best first. */
function sourcesOf(
  { system_wide, cgroup: group, wait_ms }: Config,
  policy: Policy,
  open: OpenSockets,
  logger: Logger,
): BindSource[] {
  const module = new ModuleSource({ policy, open, waitMs: wait_ms, logger });
  const cgroup = new CgroupSource({ group, policy, logger });
  const sockets = new SocketsSource({ policy, open, logger });
  switch (system_wide) {
    case "auto":
      return ModuleSource.isLoaded ? [module] : [];
    case "module":
      return [module, cgroup, sockets];
    case "cgroup":
      return [cgroup, sockets];
    case "sockets":
      return [sockets];
    case "off":
      return [];
  }
}

/** Runs until it is told to stop. Mappings stay, and are taken up at the next start. */
export async function serve(config: Config): Promise<void> {
  const logger = createLogger({ name: "natbinder", level: config.log_level });
  const lock = await HostLock.take(LOCK, "another natbinder runs on this host");
  const metrics = new Metrics("natbinder");
  metrics.collectProcess();
  const policy = policyOf(config);
  const file = new StateFile(config.state, logger);
  const state = new IdealState(file.read());
  const mapper = new PortMapper({
    kinds: config.protocols,
    nonceKey: state.nonceKey,
    onEvent: (event) => {
      logger.info(event, `gateway: ${event.event}`);
      binding.gatewayEvent(event);
      reach.doubt();
      systemWide.tell();
    },
  });
  const open = new OpenSockets({
    onClosed: (socket) => binding.close("", socket),
    onMissed: () => sweep.missed(),
  });
  const whatIsOpen = async () => {
    const isOpen = await open.whatIsOpen();
    return (key: PortKey, owner: Owner) =>
      systemWide.source?.isOpen?.(key.namespace, owner.socket) ?? isOpen(key, owner);
  };
  const binding: Binding = new Binding({
    gateway: mapper,
    policy,
    state,
    file,
    logger,
    whatIsOpen,
    onChange: () => reach.changed(),
    onHeldChange: () => systemWide.tell(),
    reconcileMs: config.compare_seconds * 1000,
    answerMs: config.wait_ms,
    leaseSeconds: config.lease_seconds,
    mostSocketsPerUser: config.most_sockets_per_user,
  });
  const reach: ReachCheck = new ReachCheck({
    entries: () => binding.entries,
    externalAddress: () => mapper.externalAddress({ background: true }),
    ask: probeBy(config),
    onLook: (reason) => own.countLook(reason),
    logger,
  });
  const sweep: Sweep = new Sweep({ binding, whatIsOpen, waitMs: config.wait_ms, logger });
  const own = new NatbinderMetrics(metrics, () => ({
    entries: binding.entries,
    reachOf: (entry) => reach.of(entry).state,
    held: binding.held,
    hasGateway: mapper.gateway !== undefined,
    isOnDisk: file.trouble === undefined,
  }));
  const systemWide = new SystemWide({
    sources: sourcesOf(config, policy, open, logger),
    binding,
    open,
    hasGateway: () => mapper.gateway !== undefined,
    metrics: own,
    logger,
  });
  const asks = new AskServer({ binding, open, systemWide, metrics: own, logger });
  const status = new StatusReport({ binding, mapper, file, systemWide, reach });
  const page = new PageServer(status, logger);
  const admin = createAdminApi({ binding, mapper, policy, reach, status, page, metrics, logger });
  stopOnSignals(logger, async () => {
    asks.stop();
    await systemWide.stop();
    sweep.stop();
    open.close();
    await Promise.all([admin.close(), page.stop(), reach.stop()]);
    await mapper.stop();
    await binding.stop();
    lock.release();
  });
  // Programs are answered while the gateway is searched for: their binds are as without it.
  await systemWide.start();
  await binding.start();
  await asks.start(config.socket);
  await listenOnSocket(admin, config.admin_socket);
  logger.info({ socket: config.socket, admin: config.admin_socket, state: config.state, pid: process.pid }, "ready");
  await mapper.start();
  if (!mapper.gateway) logger.info({}, "no gateway answers: looking for one now and then");
}
