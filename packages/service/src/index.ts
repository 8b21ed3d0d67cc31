export * from "./atomic-file.ts";
export * from "./certificate.ts";
export * from "./config.ts";
export * from "./health.ts";
export * from "./identity.ts";
export * from "./lifecycle.ts";
export * from "./logger.ts";
export * from "./metrics.ts";
