import type { Logger } from "./logger.ts";

/** A process that takes longer than this to stop is ended by force: what it holds on disk is safe at any moment. */
const STOP_DEADLINE_MS = 30_000;

/**
 * Runs `stop` once on SIGTERM or SIGINT and ends the process; a second signal ends it at once. An unexpected error
 * ends it with status 1, after the same stop, so that a supervisor starts it afresh.
 */
export function stopOnSignals(logger: Logger, stop: () => Promise<void>): void {
  let stopping = false;
  const end = (why: string, status: number): void => {
    if (stopping) process.exit(status === 0 ? 130 : status);
    stopping = true;
    logger.info({ why }, "stopping");
    setTimeout(() => {
      logger.error({}, "did not stop in time");
      process.exit(1);
    }, STOP_DEADLINE_MS).unref();
    stop().then(
      () => process.exit(status),
      (err: unknown) => {
        logger.error({ err }, "stop failed");
        process.exit(1);
      },
    );
  };
  process.on("SIGTERM", () => end("SIGTERM", 0));
  process.on("SIGINT", () => end("SIGINT", 0));
  process.on("uncaughtException", (err) => {
    logger.fatal({ err }, "unexpected error");
    end("unexpected error", 1);
  });
}
