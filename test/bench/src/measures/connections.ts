import { twoHomes, until } from "@isthmus/e2e";
import { Lab } from "@isthmus/lab";
import { implementation } from "@isthmus/native";
import { figure } from "../figure.ts";
import { Worker } from "../load/worker.ts";
import { isthmusPath } from "../peers/isthmus.ts";
import { settledMemory } from "../settle.ts";
import type { Measure } from "./measure.ts";

const PORT = 7100;
const CONNECTIONS = 5000;
/** Opened and closed before: code is compiled and tables have grown. */
const WARM_UP = 1000;
const AT_ONCE = 100;
const TIMEOUT_MS = 120_000;
/** In a daemon, by what seals its records: the native add-on has a pump as well. */
const MOST_KB = { native: 8, "node:crypto": 24 };
const MOST_KB_IN_IST = 6;

export const connections: Measure = {
  name: "connections",
  title: "Memory of an idle connection",
  method: `${CONNECTIONS} sealed connections from home A to home B over the IST, through each of which a byte went and came \
back before it fell idle. Resident memory of each process less what it was before, when ${WARM_UP} connections had come \
and gone, divided by the number; both once it does not fall any more.`,
  async run(say) {
    await using lab = await Lab.create();
    const homes = await twoHomes(lab);
    const { alice, bob } = homes;
    const [service, client] = await Promise.all([
      Worker.start(bob.node, "service"),
      Worker.start(alice.node, "client"),
    ]);
    await service.call("listen", { port: PORT, behaviour: "echo" });
    const { host, port, programs } = await isthmusPath(homes, { name: "echo", port: PORT, listen: 6001 });
    const hold = (count: number) => client.call<number>("hold", { host, port, count, atOnce: AT_ONCE }, TIMEOUT_MS);

    const lost = await hold(WARM_UP);
    await client.call("release", {}, TIMEOUT_MS);
    await until(
      "nothing is open",
      async () => ((await bob.metric("isthmus_daemon_streams")) === 0 ? true : undefined),
      TIMEOUT_MS,
    );
    say("waiting for memory to settle");
    const before = await settledMemory(programs);
    say(`opening ${CONNECTIONS} connections`);
    const alsoLost = await hold(CONNECTIONS);
    say("waiting for memory to settle");
    const after = await settledMemory(programs);
    const perConnection = programs.map((_, index) => (after[index]! - before[index]!) / CONNECTIONS / 1000);
    const [subscriber, ist, provider] = perConnection as [number, number, number];
    const daemons = { atMost: MOST_KB[implementation] };
    return [
      figure("subscriber's daemon", "KB", [subscriber], daemons),
      figure("provider's daemon", "KB", [provider], daemons),
      figure("IST", "KB", [ist], { atMost: MOST_KB_IN_IST }),
      figure(`lost while they were opened, ${AT_ONCE} at a time`, "connections", [lost + alsoLost], { atMost: 0 }),
    ];
  },
};
