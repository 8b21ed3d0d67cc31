import { z } from "zod";
import { hostPort, port } from "./address.ts";
import { base64url, certificateFingerprint, ed25519PublicKey, hexId } from "./bytes.ts";
import { LIMITS } from "./limits.ts";
import { name } from "./names.ts";

/**
 * The unordered pair of device keys that an allocation and a link belong to. Side 0 is the key that is less in text
 * order, so that every ISB, IST and daemon agrees on the sides without being told.
 */
export const sides = z.tuple([ed25519PublicKey, ed25519PublicKey]).refine(([a, b]) => a < b, "sides not in order");
export type Side = 0 | 1;
export const side = z.union([z.literal(0), z.literal(1)]);

export function sidesOf(keyA: string, keyB: string): [string, string] {
  return keyA < keyB ? [keyA, keyB] : [keyB, keyA];
}

/** What an IST holds an allocation to. Zero means no limit of this kind. */
export const allocationLimits = z.object({
  splices: z.int().nonnegative().meta({ description: "splices at once" }),
  idleMs: z.int().nonnegative().meta({ description: "a splice on which nothing moves this long ends: idle-limit" }),
  totalMs: z.int().nonnegative().meta({ description: "a splice that is this old ends: time-limit" }),
  bytes: z.int().nonnegative().meta({ description: "bytes of one splice, both ways together: byte-limit" }),
  bytesPerSecond: z.int().nonnegative().meta({ description: "of the whole allocation, both ways together" }),
  halfMs: z.int().min(100).max(130_000).meta({ description: "an unpaired leg at a cell ends after this" }),
});
export type AllocationLimits = z.infer<typeof allocationLimits>;

/** How an IST is reached; an IST declares it, the ISB passes it on to the daemons of an allocation. */
export const istAddress = z.object({
  key: ed25519PublicKey,
  name,
  addresses: z
    .array(hostPort)
    .min(1)
    .max(16)
    .meta({ description: "session and stream endpoint; cells are ports of the same hosts" }),
  secure: z.boolean().meta({ description: "wss; ws is for loopback and for those who ask for it" }),
  certificate: certificateFingerprint.optional().meta({ description: "trusted instead of the system's CAs" }),
});
export type IstAddress = z.infer<typeof istAddress>;

/** One side's share of an allocation, handed to its daemon by the ISB. */
export const allocationOffer = z.object({
  ist: istAddress,
  allocation: hexId,
  side,
  ticket: base64url(16).meta({ description: "shown at join" }),
  token: base64url(32).meta({ description: "key of the HMAC in leg headers of this side" }),
});
export type AllocationOffer = z.infer<typeof allocationOffer>;

/**
 * A cell as one side sees it: its number and this side's port. Even cells are for opens of side 0, odd ones for opens
 * of side 1. TCP and UDP share the number and are occupied apart from each other.
 *
 * At a pure cell, which is for TCP alone, ports pass unchanged (Pure TCP Splice, T 4.4): the source port of one side is
 * where the other side's legs arrive. Either both were agreed on, or one side comes from any port, and the other learns it
 * by `half` of each open.
 */
export const cell = z.object({
  cell: z
    .int()
    .min(0)
    .max(LIMITS.cellsPerAllocation - 1),
  port: z.int().min(0).max(65535).meta({ description: "where legs of this side go; 0: where `half` says" }),
  pure: z
    .object({
      source: port.optional().meta({ description: "the source port that legs of this side must have; absent: any" }),
    })
    .optional()
    .meta({ description: "ports pass unchanged; absent: a passive cell" }),
});
export type Cell = z.infer<typeof cell>;
