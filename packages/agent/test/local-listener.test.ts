import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { cannotForge, sendFromPortZero } from "@isthmus/datapath/testing";
import { nodeUdpSockets, type UdpSockets, udpSockets } from "@isthmus/native/udp";
import { formatHostPort, type HostPort } from "@isthmus/protocol";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { type ClientFlow, LocalListener } from "../src/local-listener.ts";
import { client, endOf } from "./support/programs.ts";
import { turnsUntil } from "./support/turns.ts";

/** At an address that no other test has: here a port that is free for one protocol has to be free for the other. */
const ANY: HostPort = { host: "127.0.0.79", port: 0 };

/** Every kind that this machine has. */
const kindsOfSockets = [...new Set([udpSockets, nodeUdpSockets])];

/** What came to a listener. */
class Heard {
  readonly sockets: Socket[] = [];
  readonly datagrams: string[] = [];
  readonly closed: number[] = [];
  readonly forget: (() => void)[] = [];
  /** There is nowhere to send. */
  isNowhere = false;

  connection(socket: Socket): void {
    this.sockets.push(socket);
    socket.on("error", () => undefined);
  }

  client(deliver: (payload: Buffer) => void, forget: () => void): ClientFlow | undefined {
    if (this.isNowhere) return undefined;
    const flow = this.forget.push(forget) - 1;
    return {
      send: (payload) => {
        this.datagrams.push(`${flow}: ${payload.toString()}`);
        deliver(Buffer.from(`answer to ${payload.toString()}`));
      },
      close: () => this.closed.push(flow),
    };
  }
}

async function openWith(sockets: UdpSockets, wanted: HostPort, protos = { tcp: true, udp: true }) {
  const heard = new Heard();
  const listener = await LocalListener.open(wanted, protos, heard, sockets);
  onTestFinished(() => listener.close());
  return { heard, listener, address: listener.address };
}

async function program(host = "127.0.0.1"): Promise<UdpSocket> {
  const socket = createSocket(host.includes(":") ? "udp6" : "udp4");
  socket.bind(0, host);
  await once(socket, "listening");
  onTestFinished(() => void socket.close());
  return socket;
}

async function ask(socket: UdpSocket, { host, port }: HostPort, payload: string): Promise<string> {
  const answer = once(socket, "message", { signal: AbortSignal.timeout(10_000) });
  socket.send(payload, port, host);
  return ((await answer) as [Buffer])[0].toString();
}

describe.each(["127.0.0.1", "::1"])("a listener at %s", (host) => {
  test.each(kindsOfSockets)("takes connections and datagrams ($name) at one port", async (sockets) => {
    const { heard, address } = await openWith(sockets, { host, port: 0 });
    client(formatHostPort(address));
    expect(await ask(await program(host), address, "hello")).toBe("answer to hello");
    await vi.waitFor(() => expect(heard.sockets).toHaveLength(1));
  });
});

describe.each(kindsOfSockets)("a listener with sockets of $name", (sockets) => {
  const open = (wanted: HostPort, protos?: { tcp: boolean; udp: boolean }) => openWith(sockets, wanted, protos);

  test("takes one protocol alone where that is asked for", async () => {
    const { address } = await open(ANY, { tcp: true, udp: false });
    const { address: other } = await open(address, { tcp: false, udp: true });
    expect(other).toEqual(address);
    expect(await ask(await program(), address, "hello")).toBe("answer to hello");
  });

  test("says by name that a port is taken, for either protocol, and leaves nothing behind", async () => {
    const { address } = await open(ANY, { tcp: false, udp: true });
    const wanted = LocalListener.open(address, { tcp: true, udp: true }, new Heard(), sockets);
    await expect(wanted).rejects.toMatchObject({
      code: "port-taken",
      message: `${formatHostPort(address)} is in use`,
    });
    const server = createServer().listen(address.port, address.host);
    await once(server, "listening");
    onTestFinished(() => void server.close());
    const again = LocalListener.open(address, { tcp: true, udp: false }, new Heard());
    await expect(again).rejects.toMatchObject({ code: "port-taken" });
  });

  test("says that an address is not this host's", async () => {
    for (const protos of [
      { tcp: true, udp: false },
      { tcp: false, udp: true },
    ]) {
      const wanted = LocalListener.open({ host: "192.0.2.1", port: 0 }, protos, new Heard(), sockets);
      await expect(wanted).rejects.toMatchObject({
        code: "bad-request",
        message: expect.stringContaining("cannot listen on 192.0.2.1:0"),
      });
    }
  });

  test("knows its UDP clients apart", async () => {
    const { heard, address } = await open(ANY);
    const [one, two] = [await program(), await program()];
    expect(await ask(one, address, "a")).toBe("answer to a");
    expect(await ask(two, address, "b")).toBe("answer to b");
    expect(await ask(one, address, "c")).toBe("answer to c");
    expect(heard.datagrams).toEqual(["0: a", "1: b", "0: c"]);
  });

  test("makes a client that was forgotten a new one, and forgets no other in its place", async () => {
    const { heard, address } = await open(ANY);
    const one = await program();
    await ask(one, address, "a");
    heard.forget[0]!();
    await ask(one, address, "b");
    // What comes late, of the former one.
    heard.forget[0]!();
    await ask(one, address, "c");
    expect(heard.datagrams).toEqual(["0: a", "1: b", "1: c"]);
  });

  test("drops datagrams while there is nowhere to send", async () => {
    const { heard, address } = await open(ANY);
    heard.isNowhere = true;
    const one = await program();
    one.send("lost", address.port, address.host);
    // Datagrams of one socket to another arrive in their order here.
    await new Promise((resolve) => setTimeout(resolve, 50));
    heard.isNowhere = false;
    await ask(one, address, "a");
    expect(heard.datagrams).toEqual(["0: a"]);
  });

  test("gives up the longest known of too many clients", async () => {
    const { heard, address } = await open(ANY, { tcp: false, udp: true });
    const most = 4096;
    // One socket after the other, since that many descriptors are more than a test should take.
    for (let n = 0; n <= most; n++) {
      const socket = createSocket("udp4");
      socket.bind(10_000 + n, "127.0.0.77");
      await once(socket, "listening");
      socket.send("x", address.port, address.host);
      await turnsUntil(() => heard.datagrams.length > n);
      socket.close();
    }
    expect(heard.closed).toEqual([0]);
  });

  test("takes no datagram from port 0, where no answer can be sent", async ({ skip }) => {
    skip(cannotForge !== undefined, cannotForge);
    const { heard, address } = await open(ANY);
    await sendFromPortZero("127.0.0.1", address, Buffer.from("crash"));
    expect(await ask(await program(), address, "a")).toBe("answer to a");
    expect(heard.datagrams).toEqual(["0: a"]);
  });

  test("frees its port and its clients' flows at once when it is closed; connections are others' business", async () => {
    const { heard, listener, address } = await open(ANY);
    const socket = client(formatHostPort(address));
    await ask(await program(), address, "a");
    await vi.waitFor(() => expect(heard.sockets).toHaveLength(1));
    listener.close();
    listener.close();
    expect(heard.closed).toEqual([0]);
    expect((await open(address)).address).toEqual(address);
    expect(socket.destroyed).toBe(false);
    heard.sockets[0]!.resetAndDestroy();
    expect(await endOf(socket)).toBe("reset");
  });
});
