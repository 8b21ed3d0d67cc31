export { describePortmap, type PortmapPlace } from "./compliance.ts";
export { EventLog } from "./event-log.ts";
export { FakeGateway } from "./fake-gateway.ts";
export type { FakeDatagramMood, FakeSettings, FakeWebMood } from "./fake-settings.ts";
