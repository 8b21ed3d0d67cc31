import { type TwoHomes, twoHomes } from "@isthmus/e2e";
import { Lab } from "@isthmus/lab";
import { figure } from "../figure.ts";
import { forwardPort } from "../homes.ts";
import { Worker } from "../load/worker.ts";
import { haproxyPath } from "../peers/haproxy.ts";
import { isthmusPath } from "../peers/isthmus.ts";
import type { Path } from "../peers/path.ts";
import { interleave, ROUNDS } from "../rounds.ts";
import { pairedDifferences } from "../statistics.ts";
import type { Measure } from "./measure.ts";

const PORT = 7100;
const WARM_UP = 300;
const COUNT = 1500;
const MOST_ADDED_US = 150;

export const request: Measure = {
  name: "request",
  title: "One request and its answer",
  method: `One byte to an echo service and back over one connection, ${COUNT} times in each round, without any delay on \
the cables: the median of a round. Direct TCP goes through a port forwarding of the provider's router.`,
  async run(say, _draw, pace) {
    await using lab = await Lab.create();
    const homes = await twoHomes(lab);
    const { alice, bob } = homes;
    const [service, client, relay] = await Promise.all([
      Worker.start(bob.node, "service"),
      Worker.start(alice.node, "client"),
      lab.host("relay"),
    ]);
    await service.call("listen", { host: "0.0.0.0", port: PORT, behaviour: "echo" });
    const direct = await directPath(homes);
    const sealed = await isthmusPath(homes, { name: "sealed", port: PORT, listen: 6001 });
    const plain = await isthmusPath(homes, { name: "plain", port: PORT, listen: 6002, plain: true });
    const haproxy = await haproxyPath(homes, { relay, port: PORT, listen: 6003 });
    const paths = [direct, sealed, plain, haproxy];
    const results = await interleave(
      paths,
      async ({ name, host, port }, round) => {
        const argument = { host, port, warmUp: WARM_UP, count: COUNT };
        const times = await client.call<{ median: number; p99: number }>("roundTrips", argument);
        say(`round ${round}: ${name} ${(times.median * 1000).toFixed(0)} us`);
        return times.median * 1000;
      },
      pace(ROUNDS),
    );
    return [
      ...paths.map((path) => figure(path.name, "us", results.get(path)!)),
      ...[sealed, plain, haproxy].map((path) =>
        figure(
          `${path.name}: added to direct TCP`,
          "us",
          pairedDifferences(results.get(path)!, results.get(direct)!),
          path === haproxy ? undefined : { atMost: MOST_ADDED_US },
        ),
      ),
    ];
  },
};

async function directPath(homes: TwoHomes): Promise<Path> {
  return { name: "direct TCP", host: await forwardPort(homes, PORT), port: PORT, programs: [] };
}
