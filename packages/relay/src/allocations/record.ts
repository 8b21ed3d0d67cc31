import { allocationLimits, base64url, cell, fingerprint, hexId, side, sides } from "@isthmus/protocol";
import { z } from "zod";

const share = z.object({ ticket: base64url(16), token: base64url(32) });

/** An allocation on disk: what must be the same after a restart. */
export const allocationRecord = z.object({
  allocation: hexId,
  /** Fingerprint of the key of the ISB that asked for it. */
  broker: fingerprint,
  sides,
  limits: allocationLimits,
  shares: z.tuple([share, share]),
  /** Each with the ports of side 0 and side 1. */
  cells: z.array(
    z.object({
      cell: z.int().nonnegative(),
      ports: z.tuple([cell.shape.port, cell.shape.port]),
      pure: z.object({ learns: side.optional() }).optional(),
    }),
  ),
});
export type AllocationRecord = z.infer<typeof allocationRecord>;

export const RECORD_PREFIX = "allocation/";

export function recordKey(allocation: string): string {
  return RECORD_PREFIX + allocation;
}
