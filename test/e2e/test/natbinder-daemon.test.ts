import { Deployment, HomeGateway, Natbinder, portOf } from "@isthmus/e2e";
import { Lab } from "@isthmus/lab";
import { expect, it } from "vitest";
import { EchoServer } from "./fixtures/echo.ts";
import { exercise } from "./fixtures/exercise.ts";
import { mappedPorts } from "./fixtures/mapped-ports.ts";

const LEG_PORT = 40_000;

it("a user daemon under natbinder run is reachable from behind its NAT: subscribers connect to it, and no IST is used", async () => {
  await using lab = await Lab.create();
  const [isb, ist, provider] = await Promise.all([
    lab.host("isb"),
    lab.host("ist"),
    lab.home({ name: "home-b", nat: "port-restricted", hosts: ["bob"] }),
    lab.home({ name: "home-a", nat: "symmetric", hosts: ["alice"] }),
  ]);
  const [deployment] = await Promise.all([Deployment.start({ isb, ists: [ist] }), HomeGateway.start(provider)]);
  const env = { ISTHMUS_NATBINDER_WAIT_MS: "10000" };
  const natbinder = await new Natbinder(lab.node("bob"), { env }).start();
  const [alice, bob] = await Promise.all([
    deployment.daemon(lab.node("alice"), { user: "alice" }),
    deployment.daemon(lab.node("bob"), {
      user: "bob",
      flags: ["--leg-port", String(LEG_PORT)],
      under: natbinder.runCommand,
      env,
    }),
  ]);
  await natbinder.portsAre([`tcp ${LEG_PORT}`, `udp ${LEG_PORT}`]);
  await bob.statusWhen("the ISB has reached the leg port", ({ reachable }) => reachable.state === "yes", 60_000);

  const { port } = await EchoServer.start(bob.node, 7000);
  const target = `127.0.0.1:${port}`;
  await bob.provide("echo", "--tcp", target, "--udp", target, "--allow", "alice");
  const local = portOf(await alice.subscribe("echo@bob"));

  expect(await exercise(alice, local)).toEqual({ tcp: "direct", udp: "direct" });
  expect(await deployment.ist.metric("isthmus_ist_allocations")).toBe(0);
  // The service's own port stays closed to the world.
  expect(await mappedPorts(provider.router)).toEqual(
    ["tcp", "udp"].map((proto) => `${proto} ${LEG_PORT} ${lab.node("bob").ipv4}`),
  );
});
