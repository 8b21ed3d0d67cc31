import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer } from "node:net";
import { HomeGateway, LanPort, NODE } from "@isthmus/e2e";
import { type Home, Lab } from "@isthmus/lab";
import { defaultRoute, GATEWAY_KINDS, PortMapper } from "@isthmus/portmap";
import { describePortmap, type PortmapPlace } from "@isthmus/portmap/testing";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

async function place(igd: 1 | 2): Promise<PortmapPlace> {
  const lab = await Lab.create();
  const home = await lab.home({ name: "home", nat: "port-restricted", hosts: 0 });
  const gateway = await HomeGateway.start(home, { igd });
  const port = await LanPort.plugIn(home, [2, 3]).catch(async (error) => {
    await lab.destroy();
    throw error;
  });
  const [first = "", second = ""] = port.addresses;
  return {
    hosts: [first, second],
    gateway: gateway.address,
    externalAddress: home.address,
    ownPort: gateway.httpPort,
    optionsFor: (localAddress) => ({
      route: () => Promise.resolve({ gateway: gateway.address, localAddress }),
      ownAddresses: () => [localAddress],
    }),
    forgivenMs: 3500,
    stop: () => gateway.stop(),
    startAgain: () => gateway.startAgain(),
    remove: async () => {
      // With the home it would go when the kernel gets to it, which may be after the next one wants its name.
      await port.pull();
      await lab.destroy();
    },
  };
}

describePortmap("miniupnpd, IGD 2", () => place(2));
describePortmap("miniupnpd, IGD 1", () => place(1), ["upnp"]);

/** Asks a TCP and a UDP port from the world, for that many milliseconds at most, and prints what each says. */
const ASK = `
const [address, port, mostMs] = process.argv.slice(1);
const udp = require("node:dgram").createSocket("udp4");
udp.on("message", (datagram) => { console.log("udp " + datagram); udp.close(); });
udp.send("who is there?", Number(port), address);
const tcp = require("node:net").connect(Number(port), address);
tcp.on("data", (data) => console.log("tcp " + data));
tcp.on("error", (error) => { console.log("tcp " + error.code); udp.close(); });
setTimeout(() => process.exit(), Number(mostMs)).unref();
`;

describe("traffic from the world through what was mapped", () => {
  let lab: Lab;
  let home: Home;
  let port: LanPort;

  beforeAll(async () => {
    lab = await Lab.create();
    home = await lab.home({ name: "home", nat: "port-restricted", hosts: 0 });
    await Promise.all([lab.host("outside"), HomeGateway.start(home)]);
    port = await LanPort.plugIn(home, [2]);
  });
  afterAll(async () => {
    await port?.pull();
    await lab?.destroy();
  });

  async function ask(number: number, mostMs: number): Promise<string[]> {
    const said = await lab.node("outside").read(NODE, ["-e", ASK, home.address, String(number), String(mostMs)]);
    return said.split("\n").filter(Boolean).sort();
  }

  it.each(GATEWAY_KINDS)("arrives with %s, from the peer's own address, until it is taken away", async (kind) => {
    const [address] = port.addresses;
    const mapper = new PortMapper({ kinds: [kind] });
    await using tcp = createServer((socket) => socket.end(`hello ${socket.remoteAddress}`)).listen(0, address);
    await once(tcp, "listening");
    const number = (tcp.address() as { port: number }).port;
    await using udp = createSocket("udp4");
    udp.on("message", (_, from) => udp.send(`hello ${from.address}`, from.port, from.address));
    udp.bind(number, address);

    await mapper.start();
    expect(mapper.gateway).toMatchObject({ kind, address: (await defaultRoute())!.gateway });
    const wanted = { internalPort: number, lifetimeSeconds: 60 };
    await Promise.all([mapper.map({ ...wanted, protocol: "tcp" }), mapper.map({ ...wanted, protocol: "udp" })]);
    const outside = lab.node("outside").ipv4;
    expect(await ask(number, 5000)).toEqual([`tcp hello ${outside}`, `udp hello ${outside}`]);

    await Promise.all([
      mapper.unmap({ protocol: "tcp", externalPort: number }),
      mapper.unmap({ protocol: "udp", externalPort: number }),
    ]);
    expect(await ask(number, 300)).toEqual([]);
    await mapper.stop();
  });
});
