export {
  type BindAnswer,
  Binding,
  type BindingOptions,
  type BindRequest,
  type HeldPort,
  type PortEntry,
} from "./binding.ts";
export { IdealState, idealStateSchema, type Owner, type PortKey, type StoredState } from "./ideal-state.ts";
export { type Bind, IRRELEVANT, type Irrelevant, irrelevance, type Policy, policySchema } from "./policy.ts";
export type { BindingGateway } from "./port-worker.ts";
export { type AskProbe, REACH_REASONS, type Reach, type ReachReason } from "./reach.ts";
export { ReachCheck, type ReachCheckOptions } from "./reach-check.ts";
export { StateFile } from "./state-file.ts";
