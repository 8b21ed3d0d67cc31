import { spawnSync } from "node:child_process";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { afterAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { nodeUdpSockets, type UdpAddress, type UdpSockets, udpSockets } from "../../src/udp/index.ts";
import { nativeUnavailable } from "../engines.ts";
import { skipAll } from "../skip-all.ts";

const HOST = "127.0.0.1";

/** A program's own socket. */
async function program(host = HOST, port = 0): Promise<Socket> {
  const socket = createSocket(host.includes(":") ? "udp6" : "udp4").bind(port, host);
  await once(socket, "listening");
  onTestFinished(() => {
    try {
      socket.close();
    } catch {
      // The test has closed it.
    }
  });
  return socket;
}

async function port(sockets: UdpSockets, host = HOST) {
  const heard: string[] = [];
  const from: UdpAddress[] = [];
  const bound = await sockets.bind({ host, port: 0 }, (datagram, source) => {
    heard.push(datagram.toString());
    from.push(source);
  });
  onTestFinished(() => bound.close());
  return { bound, heard, from };
}

/** Connected, and ready. */
async function connection(sockets: UdpSockets, to: UdpAddress) {
  const heard: string[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  const connected = sockets.connect(to, { datagram: (datagram) => heard.push(datagram.toString()), ready: resolve });
  onTestFinished(() => connected.close());
  await promise;
  return { connected, heard };
}

/** Every kind that this machine has: each passes the same tests. */
describe.each([...new Set([udpSockets, nodeUdpSockets])])("sockets of $name", (sockets) => {
  test.each([
    [HOST, HOST],
    ["::1", "::1"],
    ["::", "::1"],
    ["::", HOST],
    ["localhost", HOST],
  ])("bound to %s: a client at %s asks and is answered", async (at, client) => {
    const { bound, heard, from } = await port(sockets, at);
    const one = await program(client);
    one.send("hello", bound.port, client);
    await vi.waitFor(() => expect(heard).toEqual(["hello"]));
    const host = at === "::" && client === HOST ? `::ffff:${HOST}` : client;
    expect(from).toEqual([{ host, port: one.address().port }]);
    bound.send(Buffer.from("answer"), from[0]!);
    const [answer] = (await once(one, "message")) as [Buffer];
    expect(answer.toString()).toBe("answer");
  });

  test.each([HOST, "::1", "localhost"])("connected to %s: asks and is answered, by nobody else", async (host) => {
    const address = host === "localhost" ? HOST : host;
    const service = await program(address);
    const { connected, heard } = await connection(sockets, { host, port: service.address().port });
    connected.send(Buffer.from("hello"));
    const [question, source] = (await once(service, "message")) as [Buffer, UdpAddress & { address: string }];
    expect(question.toString()).toBe("hello");
    const stranger = await program(address);
    stranger.send("forged", source.port, source.address);
    service.send("answer", source.port, source.address);
    await vi.waitFor(() => expect(heard).toEqual(["answer"]));
  });

  test("datagrams of all sizes come whole, each once, in their order", async () => {
    const { bound, heard } = await port(sockets);
    const { connected } = await connection(sockets, { host: HOST, port: bound.port });
    const sizes = [0, 1, 1200, 1200, 1200, 800, 1200, 0, 0, 1500, 65_507, 1, 65_507, 9000, 9000, 9000];
    const sent = sizes.map((size, n) => String.fromCharCode(97 + n).repeat(size));
    for (const text of sent) connected.send(Buffer.from(text));
    await vi.waitFor(() => expect(heard).toHaveLength(sent.length));
    expect(heard).toEqual(sent);
  });

  test("more than goes in one call comes too, and to each of many its own", async () => {
    const { bound, heard, from } = await port(sockets);
    const clients = await Promise.all([1, 2, 3].map(() => connection(sockets, { host: HOST, port: bound.port })));
    for (let n = 0; n < 100; n++)
      for (const [c, { connected }] of clients.entries()) connected.send(Buffer.from(`${c} ${n}`));
    await vi.waitFor(() => expect(heard).toHaveLength(300));
    for (const [n, text] of heard.entries()) bound.send(Buffer.from(text), from[n]!);
    await vi.waitFor(() => expect(clients.map((client) => client.heard.length)).toEqual([100, 100, 100]));
    for (const [c, client] of clients.entries()) {
      expect(client.heard).toEqual(Array.from({ length: 100 }, (_, n) => `${c} ${n}`));
    }
  });

  test("what is kept of a datagram stays as it is", async () => {
    const kept: Buffer[] = [];
    const bound = await sockets.bind({ host: HOST, port: 0 }, (datagram) => kept.push(datagram));
    onTestFinished(() => bound.close());
    const { connected } = await connection(sockets, { host: HOST, port: bound.port });
    for (let n = 0; n < 300; n++) {
      connected.send(Buffer.from(`datagram ${n}`));
      if (n % 50 === 49) await vi.waitFor(() => expect(kept).toHaveLength(n + 1));
    }
    expect(kept.map(String)).toEqual(Array.from({ length: 300 }, (_, n) => `datagram ${n}`));
  });

  test("a port where nobody listens ends nothing: who comes there later is heard", async () => {
    const gone = await program();
    const { port: number } = gone.address();
    gone.close();
    const { connected, heard } = await connection(sockets, { host: HOST, port: number });
    for (let n = 0; n < 3; n++) {
      connected.send(Buffer.from("nobody hears this"));
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    const service = await program(HOST, number);
    service.on("message", (message, { port: from }) => service.send(message, from, HOST));
    await vi.waitFor(() => {
      connected.send(Buffer.from("back"));
      expect(heard).toContain("back");
    });
  });

  test("is never ready towards where there is no way, and may be closed", async () => {
    let isReady = false;
    // 255.255.255.255 is nobody's without SO_BROADCAST.
    const connected = sockets.connect(
      { host: "255.255.255.255", port: 9 },
      { datagram: () => undefined, ready: () => (isReady = true) },
    );
    connected.send(Buffer.from("x"));
    await new Promise((resolve) => setTimeout(resolve, 20));
    connected.close();
    connected.close();
    expect(isReady).toBe(false);
  });

  test("that is closed before it is ready is not ready later", async () => {
    let isReady = false;
    const connected = sockets.connect(
      { host: HOST, port: 9 },
      { datagram: () => undefined, ready: () => (isReady = true) },
    );
    connected.close();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(isReady).toBe(false);
  });

  test("close() sends what was to be sent, frees the port, and nothing is called any more", async () => {
    const service = await program();
    const { bound, heard } = await port(sockets);
    const { connected } = await connection(sockets, { host: HOST, port: service.address().port });
    connected.send(Buffer.from("last words"));
    connected.close();
    connected.send(Buffer.from("none"));
    const [words] = (await once(service, "message")) as [Buffer];
    expect(words.toString()).toBe("last words");

    const { port: number } = bound;
    service.send("too late", number, HOST);
    bound.close();
    bound.close();
    await program(HOST, number);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(heard).toEqual([]);
  });

  test("may be closed by what it tells", async () => {
    const heard: string[] = [];
    const bound = await sockets.bind({ host: HOST, port: 0 }, (datagram) => {
      heard.push(datagram.toString());
      bound.close();
    });
    const one = await program();
    for (let n = 0; n < 10; n++) one.send(String(n), bound.port, HOST);
    await vi.waitFor(() => expect(heard).toEqual(["0"]));
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(heard).toEqual(["0"]);
  });

  test("says by the system's code that a port is taken, and that an address is not this host's", async () => {
    const taken = await program();
    const { port: number } = taken.address();
    await expect(sockets.bind({ host: HOST, port: number }, () => undefined)).rejects.toMatchObject({
      code: "EADDRINUSE",
    });
    await expect(sockets.bind({ host: "192.0.2.1", port: 0 }, () => undefined)).rejects.toMatchObject({
      code: "EADDRNOTAVAIL",
    });
  });
});

const cannotCompile = ["make", "gcc"].find((tool) => spawnSync(tool, ["--version"]).status !== 0);

describe("the add-on's", () => {
  skipAll(nativeUnavailable ?? (cannotCompile && `there is no ${cannotCompile}`));

  const folder = mkdtempSync(join(tmpdir(), "isthmus-udp-"));
  afterAll(() => rmSync(folder, { recursive: true }));

  test("lose, double and mix nothing where the system has no room, and keep to their memory", () => {
    const flags = ["-shared", "-fPIC", join(import.meta.dirname, "no-room.c"), "-o", join(folder, "no-room.so")];
    expect(spawnSync("gcc", flags, { encoding: "utf8" }).stderr).toBe("");
    const addon = join(folder, "isthmus_native.node");
    const make = ["-C", join(import.meta.dirname, "../.."), "-j2", `BUILD=${folder}`, addon];
    const built = spawnSync("make", [...make, "CFLAGS=-O1 -g -fsanitize=address,undefined"], { encoding: "utf8" });
    expect(built.stderr).toBe("");
    const asan = spawnSync("gcc", ["-print-file-name=libasan.so"], { encoding: "utf8" }).stdout.trim();
    for (const preloaded of [asan, `${asan} ${join(folder, "no-room.so")}`]) {
      const program = [join(import.meta.dirname, "sending-process.ts"), addon];
      const ran = spawnSync(process.execPath, ["--conditions=source", ...program], {
        // Node itself keeps what it never frees.
        env: { ...process.env, LD_PRELOAD: preloaded, ASAN_OPTIONS: "detect_leaks=0" },
        encoding: "utf8",
        timeout: 60_000,
      });
      expect(ran).toMatchObject({ status: 0, stdout: "ok\n", stderr: "" });
    }
  }, 180_000);

  test("may be alive when their thread ends", async () => {
    const program = `
      const { udp } = require(${JSON.stringify(new URL("../../build/isthmus_native.node", import.meta.url).pathname)});
      const { parentPort } = require("node:worker_threads");
      const heard = udp.open("127.0.0.1", 0, false, 65536, (bytes, count) => {
        parentPort.postMessage(count);
        process.exit(0);
      });
      const sending = udp.open("127.0.0.1", udp.port(heard), true, 65536, () => {});
      udp.send(sending, [Buffer.from("a"), Buffer.from("b")], undefined, undefined);`;
    const rounds = Array.from({ length: 4 }, async () => {
      const worker = new Worker(program, { eval: true });
      const [count, status] = await Promise.all([
        new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject)),
        new Promise((resolve) => worker.once("exit", resolve)),
      ]);
      return { count, status };
    });
    expect(await Promise.all(rounds)).toEqual(Array(4).fill({ count: 2, status: 0 }));
  });
});
