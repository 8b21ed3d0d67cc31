import { z } from "zod";
import { allocationLimits, istAddress, sides } from "./allocation.ts";
import { base64url, hexId } from "./bytes.ts";
import { code, type SessionInterface } from "./envelope.ts";

const held = z.object({ allocation: hexId, sides });

/** Allocations in one `hold` message: 1,000 of about 130 bytes stay below the frame limit. */
export const HELD_PER_MESSAGE = 1000;

/** IST (client) at ISB (server). */
export const isbIst = {
  toServer: {
    requests: {
      /** What the IST is and what it holds; sent at each login. Living allocations follow in `hold` events. */
      declare: {
        request: z.object({
          address: istAddress,
          dataPath: z.enum(["kernel", "ebpf", "userspace"]),
          room: z.object({
            allocations: z.int().nonnegative().meta({ description: "further allocations that it could take" }),
          }),
        }),
        reply: z.object({}),
      },
    },
    events: {
      /** The allocations that live at the IST, in as many messages as it takes, after each `declare`. */
      hold: z.object({
        allocations: z.array(held).max(HELD_PER_MESSAGE),
        last: z.boolean().meta({ description: "nothing follows" }),
      }),
      /** Every few seconds, and at once when an IST starts to drain. */
      load: z.object({
        allocations: z.int().nonnegative(),
        splices: z.int().nonnegative(),
        bytesPerSecond: z.int().nonnegative(),
        room: z.int().nonnegative().meta({ description: "further allocations that it could take" }),
        draining: z.boolean(),
      }),
      /** An allocation has ended at the IST. */
      released: z.object({ allocation: hexId, code }),
    },
  },
  toClient: {
    requests: {
      /** Idempotent on the pair of sides: a second one gets the living allocation. */
      allocate: {
        request: z.object({ sides, limits: allocationLimits }),
        reply: z.object({
          allocation: hexId,
          shares: z.tuple([
            z.object({ ticket: base64url(16), token: base64url(32) }),
            z.object({ ticket: base64url(16), token: base64url(32) }),
          ]),
        }),
      },
      /** Ends an allocation and its splices. */
      release: { request: z.object({ allocation: hexId, code }), reply: z.object({}) },
    },
    events: {},
  },
} as const satisfies SessionInterface;
