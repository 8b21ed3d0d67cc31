import { appProgram, Daemon, Deployment, HomeGateway, Natbinder, NODE, until } from "@isthmus/e2e";
import { type Home, type HomeOptions, Lab, type Node, ORDINARY_UID } from "@isthmus/lab";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Binder, buildBinder } from "./fixtures/binder.ts";

const [TCP_PORT, UDP_PORT] = [12_000, 12_001];
/** Public, and nobody's here. */
const WRONG_ADDRESS = "11.250.0.1";

let lab: Lab;
let deployment: Deployment;
let carrier: Home;

beforeAll(async () => {
  lab = await Lab.create();
  const isb = await lab.host("isb");
  deployment = await Deployment.start({ isb, ists: [] });
  carrier = await lab.home({ name: "carrier", nat: "symmetric", hosts: 0, subnet: "100.64.0.0/24" });
});

afterAll(async () => {
  await lab?.destroy();
});

/**
 * A home with miniupnpd, and a program there that has taken a port of each protocol and listens. Its user's daemon does
 * not run yet, but natbinder knows where it would.
 */
async function start(name: string, options: Partial<HomeOptions> & { externalAddress?: string } = {}) {
  const { externalAddress, ...rest } = options;
  const home = await lab.home({ name, nat: "port-restricted", hosts: [`${name}-host`], ...rest });
  await HomeGateway.start(home, externalAddress === undefined ? {} : { externalAddress });
  const { host } = home;
  const { socket } = new Daemon(host, { user: name });
  const natbinder = await new Natbinder(host, { env: { ISTHMUS_NATBINDER_DAEMON_SOCKET: socket } }).start();
  const program = new Binder(natbinder.run(buildBinder(host.folder)));
  await program.listen(await program.take("tcp4", TCP_PORT));
  await program.take("udp4", UDP_PORT);
  return { home, host, natbinder, logIn: () => deployment.daemon(host, { user: name }) };
}

/** Waits until that is said of the two ports, which are mapped. */
async function isSaid(natbinder: Natbinder, tcp: string, udp: string): Promise<void> {
  const wanted = { [TCP_PORT]: `mapped, ${tcp}`, [UDP_PORT]: `mapped, ${udp}` };
  let last = {};
  await until(JSON.stringify(wanted), async () => {
    const { ports } = await natbinder.status();
    last = Object.fromEntries(
      ports.map(({ port, state, reachable }) => [port, `${state}, ${reachable?.state} (${reachable?.reason})`]),
    );
    return JSON.stringify(last) === JSON.stringify(wanted) || undefined;
  }).catch((error: Error) => {
    throw new Error(`${error.message}; it was ${JSON.stringify(last)}`);
  });
}

/** What `isthmus natbinder ARGS` says to people. */
function told(host: Node, { adminSocket }: Natbinder, ...args: string[]): Promise<string> {
  const env = { ISTHMUS_NATBINDER_ADMIN_SOCKET: adminSocket };
  return host.read(NODE, [appProgram("cli"), "natbinder", ...args], { uid: ORDINARY_UID, env });
}

describe.concurrent("whether the world gets through a mapping, natbinder has from the ISB", () => {
  it("which gets through: said as soon as there is a user daemon to ask by", async () => {
    const { home, host, natbinder, logIn } = await start("plain");
    await isSaid(natbinder, "unknown (no-daemon)", "unknown (no-daemon)");

    const daemon = await logIn();
    await isSaid(natbinder, "yes (answered)", "unknown (udp)");

    const { wanted } = await natbinder.explain("tcp", TCP_PORT);
    expect(wanted?.reachable).toMatchObject({ state: "yes", since: expect.any(String) });
    expect(await told(host, natbinder, "status")).toMatch(/\n12000\/tcp +mapped +yes +\d+ s /);
    expect(await told(host, natbinder, "explain", String(TCP_PORT))).toContain("from outside       yes: a connection");
    expect(await natbinder.metrics()).toContain("\nisthmus_natbinder_ports_reachable 1\n");
    // A port without a mapping stays shut, as anybody would see who asks himself.
    expect(await daemon.run(["probe", String(TCP_PORT), "--address", home.address])).toMatchObject({ code: 0 });
    const shut = await daemon.run(["--json", "probe", "13000"]);
    expect(shut.code).toBe(1);
    expect(JSON.parse(shut.stdout)).toMatchObject({
      address: home.address,
      outcome: expect.stringMatching(/^(timeout|refused)$/),
    });
  });

  it("which sees the host at another address than the gateway says: CGNAT or double NAT", async () => {
    const { host, natbinder, logIn } = await start("cut", { behind: carrier, externalAddress: WRONG_ADDRESS });
    await logIn();

    await isSaid(natbinder, "no (another-nat)", "no (another-nat)");

    const why = `CGNAT or double NAT: the gateway's own address is ${WRONG_ADDRESS}, and the ISB sees ${carrier.address}`;
    expect(await told(host, natbinder, "explain", `${UDP_PORT}/udp`)).toContain(`from outside       no: ${why}`);
    expect(await told(host, natbinder, "status")).toContain(`note     mapped ports cannot be reached: ${why}`);
    expect(natbinder.program.output.text).toContain(why);
    expect(await natbinder.metrics()).toContain("\nisthmus_natbinder_ports_unreachable 2\n");
  });

  it("which does not get through although the gateway's address is right: another NAT that the gateway hides", async () => {
    const { natbinder, logIn } = await start("hidden", { behind: carrier, externalAddress: carrier.address });
    await logIn();

    await isSaid(natbinder, "no (no-answer)", "unknown (udp)");

    const { wanted } = await natbinder.explain("tcp", TCP_PORT);
    expect(wanted?.reachable?.message).toContain("CGNAT or double NAT");
    expect(await deployment.isb.metric('isthmus_isb_port_probes_total{outcome="timeout"}')).toBeGreaterThan(0);
  });
});
