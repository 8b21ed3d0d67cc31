export { Agent, type AgentOptions } from "./agent.ts";
export { DeviceKey } from "./device-key.ts";
export { createLocalApi } from "./local-api-server.ts";
export { LogRing } from "./log-ring.ts";
export { StateLock } from "./state-lock.ts";
