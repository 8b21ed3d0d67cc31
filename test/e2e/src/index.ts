export { Daemon, type DaemonOptions, portOf, readSample, type Status, type Subscription } from "./daemon.ts";
export { Deployment, type DeploymentOptions, type TwoHomes, twoHomes } from "./deployment.ts";
export { appProgram, NODE } from "./programs.ts";
export { Isb, Ist } from "./servers.ts";
export { until } from "./until.ts";
