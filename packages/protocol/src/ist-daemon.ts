import { z } from "zod";
import { allocationLimits, cell, side } from "./allocation.ts";
import { base64url, hexId } from "./bytes.ts";
import { code, type SessionInterface } from "./envelope.ts";
import { LIMITS } from "./limits.ts";

const cells = z.array(cell).max(LIMITS.cellsPerAllocation);
const cellNumber = z
  .int()
  .min(0)
  .max(LIMITS.cellsPerAllocation - 1);

/**
 * Daemon (client) at IST (server). Binary frames of this session are control frames of a link behind the 8 bytes of
 * the allocation; the IST passes them to the other side of the allocation unread.
 */
export const istDaemon = {
  toServer: {
    requests: {
      /**
       * Takes this side of an allocation: the session's source address may use its cells from the answer on. What `cells`
       * and `peer` say may come before the answer, and is newer than what that says.
       */
      join: {
        request: z.object({ allocation: hexId, ticket: base64url(16) }),
        reply: z.object({
          side,
          cells,
          peerJoined: z.boolean(),
          limits: allocationLimits,
        }),
      },
      /** Gives this side of an allocation up. */
      leave: { request: z.object({ allocation: hexId }), reply: z.object({}) },
      /** Asks for further cells for this side's opens; both sides know them before the answer. */
      grow: { request: z.object({ allocation: hexId, cells: z.int().min(1).max(64) }), reply: z.object({ cells }) },
      /** Gives cells of this side's opens back; the last one stays. */
      shrink: {
        request: z.object({ allocation: hexId, cells: z.array(cellNumber).min(1).max(64) }),
        reply: z.object({}),
      },
    },
    events: {},
  },
  toClient: {
    requests: {
      /** The cells of an allocation as they are from now on. */
      cells: { request: z.object({ allocation: hexId, cells }), reply: z.object({}) },
    },
    events: {
      /** The other side has joined, or is there no more. */
      peer: z.object({ allocation: hexId, joined: z.boolean() }),
      /** The allocation has ended, and its cells with it. */
      released: z.object({ allocation: hexId, code }),
    },
  },
} as const satisfies SessionInterface;
