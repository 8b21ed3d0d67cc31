import { type Code, IsthmusError, istDaemon } from "@isthmus/protocol";
import type { Logger } from "@isthmus/service";
import { type LoginAttempt, type LoginVerdict, SessionServer } from "@isthmus/session";
import type { Allocations } from "../allocations/allocations.ts";
import type { CountRefused } from "../refusals.ts";
import { type ControlFrameOutcome, ControlFrames } from "./control-frames.ts";
import { DaemonContext, type DaemonSession } from "./daemon-session.ts";

/** A daemon with many links joins all of them at once when its session is back. */
const REQUEST_BURST_S = 20;

export interface DaemonSessionsOptions {
  allocations: Allocations;
  heartbeatMs: number;
  requestsPerSecond: number;
  controlFramesPerSecond: number;
  logger: Logger;
  countRefused: CountRefused;
  observeFrame: (outcome: ControlFrameOutcome) => void;
  onClosed: (code: Code) => void;
}

/** The sessions of daemons at this IST. Only a device that is a side of a living allocation may log in. */
export function daemonSessions(options: DaemonSessionsOptions): SessionServer<typeof istDaemon, DaemonContext> {
  const { allocations, logger, heartbeatMs, requestsPerSecond, controlFramesPerSecond } = options;
  const frames = new ControlFrames({ allocations, perSecond: controlFramesPerSecond, observe: options.observeFrame });

  /** Counts what a handler refuses. */
  async function counted<T>(request: Promise<T>): Promise<T> {
    return request.catch((error: unknown) => {
      if (error instanceof IsthmusError) options.countRefused("request", error.code);
      throw error;
    });
  }

  return new SessionServer<typeof istDaemon, DaemonContext>({
    protocol: istDaemon,
    clientRole: "daemon",
    heartbeatMs,
    requestRate: { perSecond: requestsPerSecond, burst: requestsPerSecond * REQUEST_BURST_S },
    // Carrying it out twice would add cells twice.
    remember: ["grow"],
    authorize: (attempt: LoginAttempt): LoginVerdict<DaemonContext> => {
      if (!allocations.concerns(attempt.key)) throw new IsthmusError("unknown-allocation");
      return { context: new DaemonContext() };
    },
    handlers: {
      requests: {
        join: (session, { allocation, ticket, keepsPorts }) =>
          counted(allocations.join(session, allocation, ticket, keepsPorts)),
        leave: async (session, { allocation }) => {
          await counted(allocations.leave(session, allocation));
          return {};
        },
        grow: async (session, { allocation, cells, pure }) => ({
          cells: await counted(allocations.grow(session, allocation, cells, pure)),
        }),
        shrink: async (session, { allocation, cells }) => {
          await counted(allocations.shrink(session, allocation, cells));
          return {};
        },
      },
      events: {},
      binary: (session, frame) => frames.relay(session, frame),
    },
    hooks: {
      internalError: (session, type, error) => logger.error({ err: error, key: session.key, type }, "request failed"),
    },
    onClose: (session: DaemonSession, code) => {
      allocations.sessionClosed(session);
      options.onClosed(code);
    },
  });
}
