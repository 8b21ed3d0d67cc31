import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { Home } from "@isthmus/lab";

const run = promisify(execFile);

const NEAR = "lan-port";
const FAR = "v-lan-port";

/**
 * Makes this very process a host of a home's LAN, by a cable from its own namespace (the world of the laboratories) to
 * the home's switch: for tests of libraries, which need no process of their own.
 */
export class LanPort {
  readonly addresses: readonly string[];

  private constructor(addresses: readonly string[]) {
    this.addresses = addresses;
  }

  /** @param numbers of the own addresses within the LAN: 2 to 9 are free */
  static async plugIn(home: Home, numbers: readonly number[]): Promise<LanPort> {
    const { subnet } = home.lan;
    if (!subnet) throw new Error(`${home.name} has no IPv4`);
    const addresses = numbers.map((number) => subnet.address(number));
    await run("ip", ["link", "add", NEAR, "type", "veth", "peer", "name", FAR, "netns", home.router.netns]);
    await home.router.script(`ip link set ${FAR} master lan up`);
    for (const address of addresses) await run("ip", ["addr", "add", `${address}/${subnet.bits}`, "dev", NEAR]);
    await run("ip", ["link", "set", NEAR, "up"]);
    await run("ip", ["route", "add", "default", "via", subnet.address(1), "dev", NEAR]);
    return new LanPort(addresses);
  }

  /** Before the home is taken away, or after. */
  async pull(): Promise<void> {
    await run("ip", ["link", "del", NEAR]).catch(() => undefined);
  }
}
