import { z } from "zod";
import { port } from "./address.ts";
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
        request: z.object({
          allocation: hexId,
          ticket: base64url(16),
          keepsPorts: z.boolean().default(false).meta({
            description: "the session reached the IST with the source port that it was given here: legs may, too",
          }),
        }),
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
      grow: {
        request: z.object({
          allocation: hexId,
          cells: z.int().min(1).max(64),
          pure: z.boolean().default(false).meta({ description: "pure ones, where there can be such" }),
        }),
        reply: z.object({ cells }),
      },
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
      /**
       * A leg of the other side waits at a pure cell: its source port is where this side's leg is to go (T figure 4.7).
       */
      half: z.object({
        allocation: hexId,
        cell: cellNumber,
        port: port.optional().meta({ description: "absent: this side cannot go there, the IST uses the port itself" }),
      }),
      /** The allocation has ended, and its cells with it. */
      released: z.object({ allocation: hexId, code }),
    },
  },
} as const satisfies SessionInterface;
