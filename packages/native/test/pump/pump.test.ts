import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { type PumpEnd, type PumpJoin, type PumpLeg, thePump } from "../../src/pump/index.ts";
import { nativeUnavailable } from "../engines.ts";
import { skipAll } from "../skip-all.ts";

const folder = mkdtempSync(join(tmpdir(), "isthmus-pump-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** What the add-on is built with; in a program of its own the host's library stands for the one inside node. */
const NODE_HEADERS = join(import.meta.dirname, `../../../../node_modules/node-linux-${process.arch}/include/node`);
const LIBCRYPTO = "-l:libcrypto.so.3";

const cannotCompile = spawnSync("gcc", ["--version"]).status === 0 ? undefined : "there is no gcc";
const pump = thePump();

describe("the engine", () => {
  skipAll(cannotCompile);

  test.each(["address,undefined", "thread"])(
    "loses nothing, mixes nothing and leaks nothing (-fsanitize=%s)",
    async (sanitizer) => {
      const program = join(folder, `stress-${sanitizer}`);
      const parts = ["pump-engine", "pump-account", "event-thread", "slots", "leg-records", "aead-record", "aead-key"];
      const sources = ["stress.c", ...parts.map((part) => `../../c/${part}.c`)];
      const files = sources.map((file) => join(import.meta.dirname, file));
      const flags = ["-std=gnu11", "-O1", "-g", `-fsanitize=${sanitizer}`, "-pthread", "-isystem", NODE_HEADERS];
      const built = spawnSync("gcc", [...flags, ...files, LIBCRYPTO, "-o", program], { encoding: "utf8" });
      expect(built.stderr).toBe("");
      const ran = spawnSync(program, { encoding: "utf8", timeout: 100_000 });
      expect(ran).toMatchObject({ status: 0, stdout: "ok\n", stderr: "" });
    },
    120_000,
  );
});

/** A connection of which one end is to be joined: the far one, and the near one with its descriptor. */
async function connection(): Promise<{ far: Socket; leg: PumpLeg; handedOver: () => void }> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const accepted = once(server, "connection") as Promise<[Socket]>;
  const { port } = server.address() as AddressInfo;
  const far = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  far.on("error", () => undefined);
  const [near] = await accepted;
  server.close();
  onTestFinished(() => {
    far.destroy();
  });
  const { fd } = (near as Socket & { _handle: { fd: number } })._handle;
  return { far, leg: { fd, early: Buffer.alloc(0) }, handedOver: () => near.destroy() };
}

async function joined(limits: { rate?: number; most?: number } = {}) {
  const [a, b] = [await connection(), await connection()];
  const account = pump!.createAccount();
  account.set(limits.rate ?? 0, limits.most ?? 0);
  const ended = Promise.withResolvers<PumpEnd>();
  const made: PumpJoin = pump!.join(account, [{ ...a.leg, early: Buffer.from("early ") }, b.leg], ended.resolve);
  a.handedOver();
  b.handedOver();
  return { a: a.far, b: b.far, join: made, ended: ended.promise, account };
}

async function textOf(socket: Socket): Promise<string> {
  let text = "";
  for await (const chunk of socket) text += String(chunk);
  return text;
}

async function resetOf(socket: Socket): Promise<string | undefined> {
  socket.resume();
  if (!socket.closed) await new Promise((resolve) => socket.once("close", resolve));
  return (socket.errored as NodeJS.ErrnoException | null)?.code;
}

describe("the pump", () => {
  skipAll(nativeUnavailable);

  test("passes what came early, what comes, and the end of each direction by itself", async () => {
    const { a, b, join: made, ended } = await joined();
    a.end("question");
    expect(await textOf(b)).toBe("early question");
    b.end("answer");
    expect(await textOf(a)).toBe("answer");
    expect(await ended).toBe("finished");
    expect(made.bytes).toEqual([14, 6]);
    expect(Math.abs(performance.now() - made.lastActive)).toBeLessThan(10_000);
  });

  test("resets the one when the other is reset", async () => {
    const { a, b, ended } = await joined();
    a.resetAndDestroy();
    expect(await resetOf(b)).toBe("ECONNRESET");
    expect(await ended).toBe("reset-by-0");
  });

  test("ends a join that is told to", async () => {
    const { a, b, join: made, ended } = await joined();
    made.end();
    expect(await Promise.all([resetOf(a), resetOf(b)])).toEqual(["ECONNRESET", "ECONNRESET"]);
    expect(await ended).toBe("told");
    made.end();
  });

  test("ends a join above its bytes", async () => {
    const { a, b, ended } = await joined({ most: 1000 });
    b.resume();
    a.write(Buffer.alloc(995));
    expect(await ended).toBe("byte-limit");
    expect(await resetOf(a)).toBe("ECONNRESET");
  });

  test("keeps to a rate that others pay from too", async () => {
    const { a, b, account } = await joined({ rate: 1_000_000 });
    let got = 0;
    b.on("data", (chunk: Buffer) => {
      got += chunk.length;
    });
    const started = performance.now();
    a.write(Buffer.alloc(600_000));
    while (got < 600_006) await once(b, "data");
    // A tenth of a second's worth and one chunk may go ahead.
    expect(performance.now() - started).toBeGreaterThan(350);
    account.spend(1_000_000, true);
    expect(account.waitMs()).toBeGreaterThan(500);
    expect(account.spend(1, false)).toBe(false);
  });

  test("gives slots to others when they are free, with counters of their own", async () => {
    for (let round = 0; round < 3; round++) {
      const joins = await Promise.all(Array.from({ length: 20 }, () => joined()));
      for (const { a, b } of joins) {
        a.end(`${round}`);
        b.end();
        a.resume();
        b.resume();
      }
      expect(await Promise.all(joins.map(({ ended }) => ended))).toEqual(Array(20).fill("finished"));
      for (const { join: made } of joins) expect(made.bytes).toEqual([7, 0]);
    }
  });

  test("refuses what is none of its own, and leaves the sockets alone", async () => {
    const [a, b] = [await connection(), await connection()];
    const account = pump!.createAccount();
    const noDescriptor = { fd: 1_000_000, early: Buffer.alloc(0) };
    expect(() => pump!.join(account, [a.leg, noDescriptor], () => undefined)).toThrow(
      expect.objectContaining({ code: "EBADF" }),
    );
    expect(() => pump!.engine.join({}, 0, a.leg.early, 0, a.leg.early)).toThrow("not an account");
    expect(() => account.set(Number.NaN, 0)).toThrow("numbers from 0 on");
    // Counters that cannot be had.
    vi.spyOn(pump!.engine, "reserve").mockReturnValueOnce(1000);
    expect(() => pump!.join(account, [a.leg, b.leg], () => expect.fail("there is no join"))).toThrow("no such block");
    const ended = new Promise((resolve) => pump!.join(account, [a.leg, b.leg], resolve));
    a.handedOver();
    b.handedOver();
    b.far.end("still there");
    a.far.end();
    b.far.resume();
    expect(await textOf(a.far)).toBe("still there");
    expect(await ended).toBe("finished");
  });

  test.each([
    ["unfinished", "ECONNRESET"],
    ["finished", undefined],
  ])("a socket of Node's whose process is killed ends as it should (%s)", async (how, code) => {
    const server = createServer({ allowHalfOpen: true }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const script = join(import.meta.dirname, "sending-process.ts");
    const child = spawn(process.execPath, ["--conditions=source", script, String(port), how], { stdio: "inherit" });
    const [socket] = (await once(server, "connection")) as [Socket];
    server.close();
    socket.on("error", () => undefined);
    socket.once("data", () => setTimeout(() => child.kill("SIGKILL"), 100));
    const closed = new Promise((resolve) => socket.once(code === undefined ? "end" : "close", resolve));
    await once(child, "exit");
    await closed;
    expect((socket.errored as NodeJS.ErrnoException | null)?.code).toBe(code);
    socket.destroy();
  });

  test.each(["SIGKILL", "exit", "resetAll"])("leaves no clean end behind when its process ends (%s)", async (how) => {
    const server = createServer({ allowHalfOpen: true }).listen(0, "127.0.0.1");
    await once(server, "listening");
    onTestFinished(() => {
      server.close();
    });
    const clients: Socket[] = [];
    const bothHere = new Promise<void>((resolve) => {
      server.on("connection", (socket) => {
        socket.on("error", () => undefined);
        if (clients.push(socket) === 2) resolve();
      });
    });
    const script = join(import.meta.dirname, "joining-process.ts");
    const { port } = server.address() as AddressInfo;
    const child = spawn(process.execPath, ["--conditions=source", script, String(port), how], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    await bothHere;
    clients[0]!.write("through");
    const [text] = (await once(clients[1]!, "data")) as [Buffer];
    expect(text.toString()).toBe("through");
    const resets = Promise.all(clients.map(resetOf));
    if (how === "SIGKILL") child.kill("SIGKILL");
    else clients[0]!.write("end");
    expect(await resets).toEqual(["ECONNRESET", "ECONNRESET"]);
  });
});
