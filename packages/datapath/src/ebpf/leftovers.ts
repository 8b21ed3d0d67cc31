import type { Logger } from "@isthmus/service";
import { HeldLockError, HostLock } from "../host-lock.ts";
import { FILTER_PRIORITY, Interfaces, LOCK } from "./interfaces.ts";

/**
 * Takes off the programs that an IST left behind which ran here with the BPF data path, for one that runs with another:
 * they would take the packets of its cells. Does nothing while somebody uses them.
 */
export async function removeLeftovers(logger: Logger): Promise<void> {
  let lock: HostLock;
  try {
    lock = await HostLock.take(LOCK);
  } catch (error) {
    if (error instanceof HeldLockError) return;
    throw error;
  }
  try {
    await removeAll(logger);
  } catch (error) {
    logger.debug({ err: error }, "programs of the BPF data path could not be looked for");
  } finally {
    lock.release();
  }
}

async function removeAll(logger: Logger): Promise<void> {
  const interfaces = new Interfaces(() => undefined);
  try {
    for (const each of await interfaces.list()) {
      const filters = await interfaces.filters(each);
      if (!filters.some(({ priority }) => priority === FILTER_PRIORITY)) continue;
      const { name } = each;
      try {
        await interfaces.removeFilters(each, FILTER_PRIORITY);
        logger.warn({ name }, "BPF programs that an IST left here before were taken off: its splices are gone");
      } catch (error) {
        logger.error(
          { name, err: error },
          `BPF programs that an IST left here before take packets of cells: tc filter del dev ${name} ingress pref ${FILTER_PRIORITY}`,
        );
      }
    }
  } finally {
    interfaces.close();
  }
}
