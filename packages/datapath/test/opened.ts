import { type DataPath, type DataPathEvent, DEFAULT_PORTS } from "@isthmus/datapath";
import { EventLog, type TestLeg } from "@isthmus/datapath/testing";
import { onTestFinished } from "vitest";
import { hosts } from "./one-cell.ts";

/** Opens a data path until the test is finished. @param isLogged which of its events are kept, by default all */
export async function opened<T extends DataPath>(
  dataPath: T,
  isLogged: (event: DataPathEvent) => boolean = () => true,
): Promise<{ dataPath: T; events: EventLog }> {
  const events = new EventLog();
  await dataPath.open({
    ports: DEFAULT_PORTS,
    udpIdleMs: 60_000,
    onEvent: (event) => {
      if (isLogged(event)) events.add(event);
    },
  });
  onTestFinished(() => dataPath.close());
  return { dataPath, events };
}

/** A leg until the test is finished. */
export function connect(side: 0 | 1, port: number): TestLeg {
  const leg = hosts.sides[side].connect(port);
  onTestFinished(() => void leg.socket.destroy());
  return leg;
}
