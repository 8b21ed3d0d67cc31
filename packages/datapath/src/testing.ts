export { type DataPathPlace, describeDataPath } from "./testing/compliance.ts";
export { CrowdedTable } from "./testing/crowded-table.ts";
export { EventLog } from "./testing/event-log.ts";
export { loopbackHosts, type TestHost, type TestHosts } from "./testing/hosts.ts";
export { cannotForge, sendFromPortZero } from "./testing/port-zero.ts";
export { TestDatagrams } from "./testing/test-datagrams.ts";
export { type LegEnd, TestLeg, talk } from "./testing/test-leg.ts";
