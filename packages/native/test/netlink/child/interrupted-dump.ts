import { execFileSync } from "node:child_process";
import { HEADER_BYTES, NetlinkSocket } from "../../../src/netlink/index.ts";
import { NETLINK_ROUTE, RTM_GETLINK } from "../route.ts";

/** A list of devices so long that it takes several datagrams, with and without a change between two of them. */
const devices = Array.from({ length: 60 }, (_, n) => `link add veth-a${n} type veth peer name veth-b${n}\n`).join("");
execFileSync("ip", ["-batch", "-"], { input: devices });
const socket = new NetlinkSocket({ protocol: NETLINK_ROUTE });

function dump(): { asked: Promise<{ interrupted: boolean; links: number }> } {
  let links = 0;
  const request = {
    type: RTM_GETLINK,
    name: "links",
    message: new Uint8Array(HEADER_BYTES + 16),
    onReply: () => {
      links++;
    },
  };
  return { asked: socket.dump(request).then(({ interrupted }) => ({ interrupted, links })) };
}

const quiet = await dump().asked;
// The first datagram was made when this returns, the others are made as they are read.
const [changing, next] = [dump(), dump()];
execFileSync("ip", ["link", "del", "veth-a59"]);
const results = { quiet, changed: await changing.asked, next: await next.asked };
socket.close();
process.stdout.write(JSON.stringify(results));
