export { BrokerFiles, type StoredBroker } from "./brokers/broker-files.ts";
export { type BrokerConfig, brokerConfig, type RelayConfig, relayConfig } from "./config.ts";
export { Relay, type RelayOptions, type RelayStatus } from "./relay.ts";
