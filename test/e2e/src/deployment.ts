import type { HomeOptions, Lab, Node } from "@isthmus/lab";
import { Daemon, type DaemonOptions } from "./daemon.ts";
import { Isb, Ist } from "./servers.ts";

/**
 * Tests that name no data path are about what is the same with all of them, or about bytes in the IST's process and what
 * ends with it; `auto` would splice them in BPF programs on hosts that can, and leave one path of the two untested.
 */
const DATA_PATH = "userspace";

export interface DeploymentOptions {
  isb: Node;
  ists: Node[];
  isbFlags?: string[];
  /** Without `--data-path` the ISTs splice in their processes. */
  istFlags?: string[];
  /** Added to the environment of the ISB, the ISTs and the daemons. */
  env?: NodeJS.ProcessEnv;
}

/** An ISB and its ISTs on public hosts of a laboratory, and the daemons that log in there. */
export class Deployment {
  readonly isb: Isb;
  readonly ists: Ist[];
  readonly daemons: Daemon[] = [];
  readonly #env: NodeJS.ProcessEnv;

  private constructor(isb: Isb, ists: Ist[], env: NodeJS.ProcessEnv) {
    this.isb = isb;
    this.ists = ists;
    this.#env = env;
  }

  static async start(options: DeploymentOptions): Promise<Deployment> {
    const { env = {} } = options;
    const isbEnv = { ISTHMUS_ISB_IST__DATA_PATH__DRIVER: DATA_PATH, ...env };
    const istFlags = ["--data-path", DATA_PATH, ...(options.istFlags ?? [])];
    const isb = await new Isb(options.isb, options.isbFlags, isbEnv).start();
    const ists = await Promise.all(
      options.ists.map(async (node) => {
        const ist = new Ist(node, istFlags, env);
        await ist.join(await isb.inviteIst());
        return ist.start();
      }),
    );
    await Promise.all(ists.map((ist) => ist.ready()));
    return new Deployment(isb, ists, env);
  }

  get ist(): Ist {
    const [first] = this.ists;
    if (!first) throw new Error("the deployment has no IST");
    return first;
  }

  /** Starts a daemon, registers its device, logs it in. */
  async daemon(node: Node, options: DaemonOptions): Promise<Daemon> {
    const env = { ...this.#env, ...options.env };
    const [daemon, invite] = await Promise.all([
      new Daemon(node, { ...options, env }).start(),
      this.isb.invite(options.user),
    ]);
    await daemon.login(invite);
    this.daemons.push(daemon);
    return daemon;
  }
}

export interface TwoHomes {
  lab: Lab;
  deployment: Deployment;
  /** In home A, who subscribes. */
  alice: Daemon;
  /** In home B, who provides. */
  bob: Daemon;
}

/** The thesis' figure 3.3: two homes behind NATs, an ISB and an IST in the Internet. */
export async function twoHomes(
  lab: Lab,
  options: { nat?: HomeOptions["nat"]; delayMs?: number } & Partial<DeploymentOptions> = {},
): Promise<TwoHomes> {
  const { nat = "port-restricted", delayMs, ...rest } = options;
  const cable = delayMs === undefined ? {} : { delayMs };
  const [isb, ists] = await Promise.all([
    rest.isb ?? lab.host("isb"),
    rest.ists ?? lab.host("ist").then((ist) => [ist]),
    lab.home({ name: "home-a", nat, hosts: ["alice"], ...cable }),
    lab.home({ name: "home-b", nat, hosts: ["bob"], ...cable }),
  ]);
  const deployment = await Deployment.start({ ...rest, isb, ists });
  const [alice, bob] = await Promise.all([
    deployment.daemon(lab.node("alice"), { user: "alice" }),
    deployment.daemon(lab.node("bob"), { user: "bob" }),
  ]);
  return { lab, deployment, alice, bob };
}
