import { spawn, spawnSync } from "node:child_process";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { type DatagramCell, type DatagramEvent, theDatagramRelay } from "../../src/datagrams/index.ts";
import { thePump } from "../../src/pump/index.ts";
import { nativeUnavailable } from "../engines.ts";
import { skipAll } from "../skip-all.ts";

const BUFFER_BYTES = 1024 * 1024;

const folder = mkdtempSync(join(tmpdir(), "isthmus-datagrams-"));
afterAll(() => rmSync(folder, { recursive: true }));

const cannotCompile = spawnSync("gcc", ["--version"]).status === 0 ? undefined : "there is no gcc";
const relay = theDatagramRelay();

describe("the engine", () => {
  skipAll(cannotCompile);

  test.each(["address,undefined", "thread"])(
    "changes nothing, mixes nothing and leaks nothing (-fsanitize=%s)",
    async (sanitizer) => {
      const program = join(folder, `stress-${sanitizer}`);
      const engine = ["datagram-relay", "datagram-train", "pump-account", "event-thread", "slots"].map(
        (name) => `../../c/${name}.c`,
      );
      const sources = ["stress.c", ...engine].map((file) => join(import.meta.dirname, file));
      const flags = ["-std=gnu11", "-O1", "-g", `-fsanitize=${sanitizer}`, "-pthread", "-Wl,--wrap=sendmmsg"];
      const built = spawnSync("gcc", [...flags, ...sources, "-o", program], { encoding: "utf8" });
      expect(built.stderr).toBe("");
      const ran = spawnSync(program, { encoding: "utf8", timeout: 100_000 });
      expect(ran).toMatchObject({ status: 0, stdout: "ok\n", stderr: "" });
    },
    120_000,
  );
});

/** A socket of a client, bound to an address of its own. */
async function client(address = "127.0.0.1"): Promise<Socket> {
  const socket = createSocket("udp4");
  socket.bind(0, address);
  await once(socket, "listening");
  onTestFinished(() => {
    socket.close();
  });
  return socket;
}

/** A port that was free a moment ago. */
async function freePort(): Promise<number> {
  const socket = createSocket("udp4").bind(0, "127.0.0.1");
  await once(socket, "listening");
  const { port } = socket.address();
  socket.close();
  return port;
}

/** A cell that expects 127.0.0.1 on both sides, and who comes to it. */
async function oneCell(): Promise<{ cell: DatagramCell; ports: [number, number]; events: DatagramEvent[] }> {
  const ports: [number, number] = [await freePort(), await freePort()];
  const [a, b] = ports.map((port) => ({
    sockets: [relay!.bind("127.0.0.1", port, false, BUFFER_BYTES)],
    sources: ["127.0.0.1"],
  }));
  const events: DatagramEvent[] = [];
  const cell = relay!.add(thePump()!.createAccount(), [a!, b!], (event) => events.push(event));
  onTestFinished(() => cell.remove());
  return { cell, ports, events };
}

describe("the relay", () => {
  skipAll(nativeUnavailable);

  test("asks before two meet, and loses nothing meanwhile", async () => {
    const { cell, ports, events } = await oneCell();
    const [a, b] = [await client(), await client()];
    a.send("first", ports[0], "127.0.0.1");
    await vi.waitFor(() => expect(events).toHaveLength(1));
    expect(events[0]).toEqual({ event: "half", side: 0, source: { host: "127.0.0.1", port: a.address().port } });
    const arrived = once(a, "message");
    b.send("second", ports[1], "127.0.0.1");
    await vi.waitFor(() => expect(events).toHaveLength(2));
    expect(events[1]).toEqual({ event: "meeting", side: 1, source: { host: "127.0.0.1", port: b.address().port } });
    a.send("third", ports[0], "127.0.0.1");
    cell.answer(true);
    expect(String((await arrived)[0])).toBe("second");
    expect(String((await once(b, "message"))[0])).toBe("third");
    expect(cell.bytes).toEqual([5, 6]);
    expect(cell.dropped).toEqual({
      stranger: 0,
      early: 1,
      foreign: 0,
      "splice-limit": 0,
      rate: 0,
      unsendable: 0,
    });
    expect(Math.abs(performance.now() - cell.lastActive)).toBeLessThan(10_000);
  });

  test("says nothing of what is over, and keeps its counters when it is removed", async () => {
    const { cell, ports, events } = await oneCell();
    const a = await client();
    a.send("first", ports[0], "127.0.0.1");
    await vi.waitFor(() => expect(cell.dropped.early).toBe(1));
    await vi.waitFor(() => expect(events).toHaveLength(1));
    cell.forget();
    a.send("again", ports[0], "127.0.0.1");
    await vi.waitFor(() => expect(events.map(({ event }) => event)).toEqual(["half", "half"]));
    cell.remove();
    cell.remove();
    cell.answer(true);
    cell.expect(0, []);
    const next = await oneCell();
    expect(cell.dropped.early).toBe(2);
    expect(next.cell.dropped.early).toBe(0);
  });

  test("lets go of a port before it returns, and says why it cannot have one", async () => {
    const { cell, ports } = await oneCell();
    expect(() => relay!.bind("127.0.0.1", ports[0], false, BUFFER_BYTES)).toThrow(
      expect.objectContaining({ code: "EADDRINUSE" }),
    );
    cell.remove();
    const socket = relay!.bind("127.0.0.1", ports[0], false, BUFFER_BYTES);
    socket.close();
    socket.close();
    expect(() => socket.fd).toThrow("closed");
    relay!.bind("127.0.0.1", ports[0], false, BUFFER_BYTES).close();
  });

  test("refuses what is none of its own", async () => {
    const { cell } = await oneCell();
    const { engine } = relay!;
    expect(() => relay!.bind("localhost", 0, false, BUFFER_BYTES)).toThrow("an address is a literal");
    expect(() => engine.add({}, [], [], [], [])).toThrow("not an account");
    expect(() => engine.add(thePump()!.createAccount().handle, [1_000_000], [], [], [])).toThrow(
      expect.objectContaining({ code: "EBADF" }),
    );
    expect(() => cell.expect(0, ["elsewhere"])).toThrow("an address is a literal");
    expect(() => engine.counters(1_000_000)).toThrow("no such block");
    engine.answer(1_000_000, true);
    engine.remove(1_000_000);
  });

  test("leaves the sockets with their owner when a cell cannot be made", async () => {
    const account = thePump()!.createAccount();
    const ports = [await freePort(), await freePort()];
    const [a, b] = ports.map((port) => relay!.bind("127.0.0.1", port, false, BUFFER_BYTES));
    const add = (sources: string[], onEvent: () => void): DatagramCell =>
      relay!.add(
        account,
        [
          { sockets: [a!], sources: ["127.0.0.1"] },
          { sockets: [b!], sources },
        ],
        onEvent,
      );
    expect(() => add(["elsewhere"], () => undefined)).toThrow("an address is a literal");
    const heard = new Promise<void>((resolve) => {
      const cell = add(["127.0.0.1"], resolve);
      onTestFinished(() => cell.remove());
    });
    (await client()).send("first", ports[1]!, "127.0.0.1");
    await heard;
    expect(() => b!.fd).toThrow("a cell's");
  });

  test.each([
    ["exit", 7],
    ["by itself", 0],
    ["SIGKILL", null],
  ] as const)("leaves no port behind when its process ends (%s)", async (how, status) => {
    const ports = [await freePort(), await freePort()];
    const script = join(import.meta.dirname, "relaying-process.ts");
    const child = spawn(process.execPath, ["--conditions=source", script, how, ...ports.map(String)], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    await once(child.stdout, "data");
    const [a, b] = [await client(), await client()];
    // Traffic goes on while it ends.
    const sending = setInterval(() => {
      a.send(Buffer.alloc(1000), ports[0]!, "127.0.0.1");
      b.send("hello", ports[1]!, "127.0.0.1");
    }, 1);
    onTestFinished(() => clearInterval(sending));
    await once(b, "message");
    if (how === "SIGKILL") child.kill("SIGKILL");
    else child.stdin.write("end");
    const [code] = (await once(child, "exit")) as [number | null];
    expect(code).toBe(status);
    for (const port of ports) relay!.bind("127.0.0.1", port, false, BUFFER_BYTES).close();
  });
});
