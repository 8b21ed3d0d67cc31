import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { Lab, type Node, ORDINARY_UID } from "@isthmus/lab";
import { afterEach, beforeEach, expect, test } from "vitest";

let lab: Lab;
let node: Node;

beforeEach(async () => {
  lab = await Lab.create();
  node = await lab.host("host");
});
afterEach(() => lab.destroy());

const shell = (script: string, options = {}) => node.spawn("sh", ["-c", script], options);

test("a command's output and status are results", async () => {
  const result = await node.run("sh", ["-c", "cat; echo wrong >&2; exit 3"], { input: "right" });
  expect(result).toEqual({ stdout: "right", stderr: "wrong\n", code: 3 });
  await expect(node.read("sh", ["-c", "echo wrong >&2; exit 3"])).rejects.toThrow(/status 3.*wrong/s);
  expect((await node.run("no-such-command")).code).toBe(127);
});

test("a command that takes too long is killed with its children", async () => {
  const took = node.run("sh", ["-c", "sleep 1000 & echo $!; wait"], { timeoutMs: 200 });
  await expect(took).rejects.toThrow(/more than 200 ms/);
  expect(await node.read("ip", ["netns", "pids", node.netns])).not.toMatch(/\d+\n\d+/);
});

test("an ordinary user has no capability and no way to get one", async () => {
  const status = await node.read("cat", ["/proc/self/status"], { uid: ORDINARY_UID });
  expect(status).toMatch(/^Uid:\t65534\t65534\t65534\t65534$/m);
  expect(status).toMatch(/^Gid:\t65534\t65534\t65534\t65534$/m);
  expect(status).toMatch(/^Groups:\s*$/m);
  for (const set of ["Inh", "Prm", "Eff", "Bnd", "Amb"]) expect(status).toMatch(new RegExp(`^Cap${set}:\\t0+$`, "m"));
  expect(status).toMatch(/^NoNewPrivs:\t1$/m);
  expect((await node.run("ip", ["link", "add", "x", "type", "bridge"], { uid: ORDINARY_UID })).code).not.toBe(0);
});

test("a node's folder is the home of its programs, for the ordinary user too", async () => {
  const output = await node.read("sh", ["-c", "cd && touch mine && pwd && echo $GIVEN"], {
    uid: ORDINARY_UID,
    env: { GIVEN: "yes" },
  });
  expect(output).toBe(`${node.folder}\nyes\n`);
  expect(statSync(`${node.folder}/mine`).uid).toBe(ORDINARY_UID);
});

test("a replaced file is seen by this node's programs only", async () => {
  const other = await lab.host("other");
  node.replaceFile("/etc/hosts", "11.1.0.9 isb.example\n");
  expect(await node.read("getent", ["hosts", "isb.example"], { uid: ORDINARY_UID })).toMatch(/^11\.1\.0\.9 /);
  expect(await other.read("cat", ["/etc/hosts"])).not.toContain("isb.example");
});

test("output is waited for, also from a position on", async () => {
  const program = shell("echo one; read x; echo two; read x; echo one; read x", { stdin: "pipe" });
  await program.waitForOutput(/one/);
  const position = program.output.position;
  program.stdin.write("\n");
  expect((await program.waitForOutput(/t(w)o/))[1]).toBe("w");
  program.stdin.write("\n");
  await program.waitForOutput(/one/, 5000, position);
  expect(program.output.since(position)).toBe("two\none\n");
});

test("waiting fails with the last lines when the program ends or takes too long", async () => {
  const program = shell("echo working; read x; echo broken >&2; exit 4", { stdin: "pipe", name: "worker" });
  await expect(program.waitForOutput(/done/, 100)).rejects.toThrow(/worker on host did not write .*100 ms.*working/s);
  const waiting = program.waitForOutput(/done/);
  program.stdin.end("\n");
  await expect(waiting).rejects.toThrow(/ended with status 4 before.*broken/s);
  expect(await program.exited).toEqual({ code: 4, signal: null });
  await expect(lab.destroy()).rejects.toThrow(/worker on host ended with status 4.*broken/s);
  lab = await Lab.create();
});

test("an end that was announced or asked for is no error", async () => {
  const short = shell("exit 4", { ends: true });
  const stopped = shell("exec sleep 1000");
  await short.exited;
  expect(await stopped.stop()).toEqual({ code: null, signal: "SIGTERM" });
  await lab.destroy();
  lab = await Lab.create();
});

test("a program that does not stop is killed, and that is an error", async () => {
  const stubborn = shell("trap '' TERM; echo ready; while :; do sleep 1; done");
  await stubborn.waitForOutput(/ready/);
  await expect(stubborn.stop("SIGTERM", 100)).rejects.toThrow(/did not end within 100 ms of SIGTERM/);
  expect(stubborn.running).toBe(false);
});

test("a program dies with the process that started it, however that ends", async () => {
  const script = `
    import { Lab } from "${join(import.meta.dirname, "../src/index.ts")}";
    const lab = await Lab.create();
    const host = await lab.host("host");
    for (const uid of [undefined, ${ORDINARY_UID}]) {
      const program = host.spawn("sh", ["-c", "echo runs; exec sleep 60"], { uid });
      await program.waitForOutput(/runs/);
      console.log(program.pid);
    }
    process.kill(process.pid, "SIGKILL");`;
  const { stdout, code } = await node.run(process.execPath, ["--input-type=module", "-e", script]);
  expect(code).toBe(128 + 9);
  const pids = stdout.trim().split("\n");
  expect(pids.length).toBe(2);
  await expect.poll(() => pids.filter((pid) => existsSync(`/proc/${pid}`)), { interval: 5 }).toEqual([]);
});

test("resources are those of the program", async () => {
  const script = `
    const sockets = Array.from({ length: 10 }, () => require("node:dgram").createSocket("udp4"));
    sockets.forEach((socket) => socket.bind(0));
    globalThis.held = Buffer.alloc(64 << 20, 1);
    for (const end = performance.now() + 100; performance.now() < end; );
    Promise.all(sockets.map((socket) => require("node:events").once(socket, "listening"))).then(() => console.log("ready"));`;
  const program = node.spawn(process.execPath, ["-e", script], { uid: ORDINARY_UID });
  await program.waitForOutput(/ready/);
  const used = program.resources();
  expect(used.rssBytes).toBeGreaterThan(64 << 20);
  expect(used.peakRssBytes).toBeGreaterThanOrEqual(used.rssBytes);
  expect(used.userSeconds + used.systemSeconds).toBeGreaterThan(0.05);
  expect(used.sockets).toBeGreaterThanOrEqual(10);
  expect(used.descriptors).toBeGreaterThan(used.sockets);
  expect(used.threads).toBeGreaterThan(1);
});
