import { readFileSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Home } from "@isthmus/lab";

const HTTP_PORT = 5000;
const END_MS = 5000;
const POLL_MS = 10;
const SIGNAL_TURNS = 10;

/** Tables of its own beside the router's: what is forwarded by DNAT passes the router's firewall. */
const RULESET = `add table inet miniupnpd
delete table inet miniupnpd
table inet miniupnpd {
  chain miniupnpd {}
  chain prerouting_miniupnpd {}
  chain postrouting_miniupnpd {}
  chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
  chain postrouting { type nat hook postrouting priority 100; jump postrouting_miniupnpd; }
}
`;

export interface HomeGatewayOptions {
  /** Version of UPnP IGD. @default 2 */
  igd?: 1 | 2;
  /** What it takes for its outer address, right or wrong. @default that of its outer interface, if that is public */
  externalAddress?: string;
}

/** miniupnpd on a home's router: UPnP IGD, PCP and NAT-PMP on its LAN. */
export class HomeGateway {
  readonly home: Home;
  /** Of the web server: description and control. */
  readonly httpPort = HTTP_PORT;
  readonly #configFile: string;
  /** Of miniupnpd. */
  readonly pidFile: string;

  private constructor(home: Home, configFile: string, pidFile: string) {
    this.home = home;
    this.#configFile = configFile;
    this.pidFile = pidFile;
  }

  /** The router's address on its LAN. */
  get address(): string {
    return this.home.lan.subnet?.address(1) ?? "";
  }

  static async start(home: Home, { igd = 2, externalAddress }: HomeGatewayOptions = {}): Promise<HomeGateway> {
    const configFile = join(home.router.folder, "miniupnpd.conf");
    const subnet = home.lan.subnet?.text;
    // Leases as short as tests want them; privileged ports are nobody's.
    writeFileSync(
      configFile,
      `ext_ifname=wan
${externalAddress === undefined ? "" : `ext_ip=${externalAddress}\n`}\
listening_ip=lan
http_port=${HTTP_PORT}
enable_natpmp=yes
ipv6_disable=yes
secure_mode=yes
min_lifetime=2
system_uptime=no
upnp_table_name=miniupnpd
upnp_nat_table_name=miniupnpd
uuid=6962efa6-c6fb-4d90-a361-f845f3ef1c15
force_igd_desc_v1=${igd === 1 ? "yes" : "no"}
allow 1024-65535 ${subnet} 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
`,
    );
    const gateway = new HomeGateway(home, configFile, join(home.router.folder, "miniupnpd.pid"));
    await gateway.startAgain();
    return gateway;
  }

  /** Stops it in good order: it says goodbye, and its mappings stay in force. */
  async stop(): Promise<void> {
    const pid = Number(await readFile(this.pidFile, "utf8"));
    const deadline = Date.now() + END_MS;
    for (let turn = 0; isAlive(pid); turn++) {
      if (Date.now() > deadline) throw new Error("miniupnpd does not end");
      // It only notes the signal; one that comes right before it waits for requests would be seen at the next of them.
      if (turn % SIGNAL_TURNS === 0) terminate(pid);
      await sleep(POLL_MS);
    }
  }

  /** Starts it, without the mappings that it had, unless they are kept. Resolves when it answers. */
  async startAgain({ keepMappings = false } = {}): Promise<void> {
    const { router } = this.home;
    if (!keepMappings) await router.read("nft", ["-f", "-"], { input: RULESET });
    await router.script(`
miniupnpd -f ${this.#configFile} -P ${this.pidFile}
for turn in $(seq 500); do
  if [ -s ${this.pidFile} ] && ss -Htln "sport = :${HTTP_PORT}" | grep -q .; then exit 0; fi
  sleep 0.01
done
echo "miniupnpd does not listen" >&2
exit 1
`);
  }
}

function terminate(pid: number): void {
  try {
    process.kill(pid, "SIGTERM");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/** Nobody may wait for a daemon, so its death is one although its number stays. */
function isAlive(pid: number): boolean {
  try {
    return !/\) [ZX]/.test(readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch {
    return false;
  }
}
