export { type AdminApiOptions, createAdminApi } from "./admin/api.ts";
export { loadOrCreateAdminToken, readAdminToken } from "./admin/token.ts";
export { Broker, type BrokerOptions } from "./broker.ts";
export { chooseIst, type IstCandidate } from "./ist/choice.ts";
export type { Operations } from "./operations.ts";
export { type BrokerSettings, brokerSettings } from "./settings.ts";
