import type { Code } from "@isthmus/protocol";

/** Where something was refused or dropped; a label of the counters. */
export type RefusedAt = "connection" | "leg" | "login" | "request";

export type CountRefused = (at: RefusedAt, code: Code) => void;
