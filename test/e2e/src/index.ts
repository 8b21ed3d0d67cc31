export { Daemon, type DaemonOptions, portOf, readSample, type Status, type Subscription } from "./daemon.ts";
export { Deployment, type DeploymentOptions, type TwoHomes, twoHomes } from "./deployment.ts";
export { HomeGateway, type HomeGatewayOptions } from "./home-gateway.ts";
export { type KernelRelayOptions, kernelRelay } from "./kernel-relay.ts";
export { LanPort } from "./lan-port.ts";
export { Natbinder, type NatbinderOptions } from "./natbinder.ts";
export { appProgram, NODE, START_TIMEOUT_MS } from "./programs.ts";
export { Isb, Ist } from "./servers.ts";
export {
  Exim,
  Nginx,
  ownFile,
  ownFolder,
  Sshd,
  SshUser,
  startDnsmasq,
  startIperf,
  startRedis,
} from "./services/index.ts";
export { until } from "./until.ts";
