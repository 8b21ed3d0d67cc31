/** For tests of anything that keeps records: the suite that every store passes, and a real Redis to try it on. */
export * from "./testing/compliance.ts";
export * from "./testing/redis-process.ts";
export * from "./testing/sightings.ts";
