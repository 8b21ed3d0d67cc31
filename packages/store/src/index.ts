export * from "./open.ts";
export * from "./scan-all.ts";
export * from "./store.ts";
export * from "./update.ts";
