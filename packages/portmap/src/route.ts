import { createSocket } from "node:dgram";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { networkInterfaces } from "node:os";

/** Of Linux: destination, gateway and mask in the byte order of the machine, in hexadecimal. */
const ROUTES_FILE = "/proc/net/route";
const RTF_UP = 1;
const RTF_GATEWAY = 2;
/** Nothing is sent: a connected UDP socket knows its own address. */
const ANY_PORT = 9;

/** The way out of this host. */
export interface Route {
  /** The router's address. */
  gateway: string;
  /** The own address towards it. */
  localAddress: string;
}

/** The default route of IPv4; undefined without one. */
export async function defaultRoute(): Promise<Route | undefined> {
  const gateway = parseDefaultGateway(await readFile(ROUTES_FILE, "latin1").catch(() => ""));
  const localAddress = gateway === undefined ? undefined : await addressTowards(gateway);
  return gateway === undefined || localAddress === undefined ? undefined : { gateway, localAddress };
}

/** The router of the default route with the least metric, in the text of `/proc/net/route`. */
export function parseDefaultGateway(text: string): string | undefined {
  let best: { gateway: string; metric: number } | undefined;
  for (const line of text.split("\n").slice(1)) {
    const [, destination = "", gateway = "", flags = "", , , metric = "", mask = ""] = line.split("\t");
    const isDefault = /^0{8}$/.test(destination) && /^0{8}$/.test(mask) && /^[\dA-F]{8}$/i.test(gateway);
    const isUp = (Number.parseInt(flags, 16) & (RTF_UP | RTF_GATEWAY)) === (RTF_UP | RTF_GATEWAY);
    const cost = Number(metric);
    if (!isDefault || !isUp || !Number.isInteger(cost) || (best && best.metric <= cost)) continue;
    best = { gateway: machineOrder(Buffer.from(gateway, "hex")).join("."), metric: cost };
  }
  return best?.gateway;
}

/** Every IPv4 address of this host. */
export function ownAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap((addresses = []) =>
    addresses.filter(({ family }) => family === "IPv4").map(({ address }) => address),
  );
}

/** The kernel prints a number in network order as one of its own order. */
function machineOrder(bytes: Buffer): Buffer {
  return new Uint8Array(new Uint16Array([1]).buffer)[0] === 1 ? bytes.reverse() : bytes;
}

async function addressTowards(gateway: string): Promise<string | undefined> {
  const socket = createSocket("udp4");
  try {
    socket.connect(ANY_PORT, gateway);
    await once(socket, "connect");
    return socket.address().address;
  } catch {
    return undefined;
  } finally {
    socket.close();
  }
}
