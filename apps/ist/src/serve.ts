import { HostLock } from "@isthmus/datapath";
import { parseHostPort } from "@isthmus/protocol";
import { Relay } from "@isthmus/relay";
import { addHealthRoutes, createLogger, Metrics, stopOnSignals } from "@isthmus/service";
import { fastify } from "fastify";
import type { Config } from "./config.ts";
import { STATUS_PATH } from "./status.ts";

/** An address that is taken is taken by another IST, above all. @throws Error that says so, or else `error` */
async function explain(error: NodeJS.ErrnoException, lock: string): Promise<never> {
  if (error.code === "EADDRINUSE") (await HostLock.take(lock)).release();
  throw error;
}

/** Runs an IST until it is told to stop. @throws Error that says why it cannot run; everything is let go of then */
export async function serve({ admin, log_level, ...config }: Config): Promise<void> {
  const logger = createLogger({ name: "ist", level: log_level });
  const metrics = new Metrics("ist");
  metrics.collectProcess();
  const relay = new Relay({ config, logger, metrics });
  const app = fastify();
  addHealthRoutes(app, { metrics, ready: () => relay.problem });
  app.get(STATUS_PATH, async (_request, reply) => {
    const status = await relay.status();
    return status ?? reply.status(503).send({ problem: relay.problem });
  });
  const stop = async (): Promise<void> => {
    await relay.stop();
    await app.close();
  };
  // However the process ends, no daemon may take a stream that is cut for one that has ended.
  process.once("exit", () => relay.abort());
  stopOnSignals(logger, stop);
  try {
    // First: it tells why the IST is not ready yet.
    await app.listen(parseHostPort(admin.listen)!).catch((error: NodeJS.ErrnoException) => explain(error, config.lock));
    await relay.start();
  } catch (error) {
    await stop();
    throw error;
  }
  logger.info({ admin: admin.listen, data: config.data, pid: process.pid }, "ready");
}
