import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { NetlinkSocket } from "../../../src/netlink/index.ts";
import { NETLINK_ROUTE, RTM_NEWLINK, RTMGRP_LINK } from "../route.ts";

/** More events than a small receive buffer takes while the loop is busy; and whether later ones arrive. */
const seen = { before: 0, lost: [] as string[], after: 0 };
let changed = Promise.withResolvers<void>();
const socket = new NetlinkSocket({
  protocol: NETLINK_ROUTE,
  receiveBufferBytes: 2048,
  onMessage: ({ type }) => {
    if (type !== RTM_NEWLINK) return;
    if (seen.lost.length === 0) seen.before++;
    else seen.after++;
    changed.resolve();
  },
  onLost: (reason) => {
    seen.lost.push(reason);
    changed.resolve();
  },
});
socket.join(RTMGRP_LINK);

const flaps = Array.from({ length: 40 }, (_, n) => `link set lo ${n % 2 === 0 ? "up" : "down"}\n`).join("");
execFileSync("ip", ["-batch", "-"], { input: flaps });
while (seen.lost.length === 0) {
  await changed.promise;
  changed = Promise.withResolvers();
}
// A socket that was overrun gets nothing more until it is empty.
await new Promise((resolve) => setImmediate(resolve));
const afterOverrun = seen.after;
execFileSync("ip", ["link", "set", "lo", "up"]);
while (seen.after === afterOverrun) {
  await changed.promise;
  changed = Promise.withResolvers();
}
socket.close();
writeFileSync(1, JSON.stringify(seen));
