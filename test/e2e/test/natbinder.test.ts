import { readFileSync } from "node:fs";
import { join } from "node:path";
import { HomeGateway, Natbinder, NODE, until } from "@isthmus/e2e";
import { type Home, Lab, type Node } from "@isthmus/lab";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { Binder, buildBinder } from "./fixtures/binder.ts";
import { mappedPorts } from "./fixtures/mapped-ports.ts";

/** What a program may wait in bind(), and what the measurement of it may be off on a busy machine. */
const ANSWER_MS = 500;
const LATE_MS = 250;

/** Asks a port from the world, for that many milliseconds at most, and prints what it says. */
const ASK = `
const [address, port, proto, mostMs] = process.argv.slice(1);
setTimeout(() => process.exit(), Number(mostMs)).unref();
const say = (text) => { console.log(String(text)); process.exit(); };
if (proto === "udp") {
  const socket = require("node:dgram").createSocket("udp4");
  socket.on("message", say);
  const ask = () => socket.send("who is there?", Number(port), address);
  ask();
  setInterval(ask, 200);
} else {
  const socket = require("node:net").connect(Number(port), address);
  socket.on("data", say);
  socket.on("error", () => undefined);
}
`;

let lab: Lab;
let home: Home;
let gateway: HomeGateway;
let mine: Natbinder;
let theirs: Natbinder;
let program: string;
const binders: Binder[] = [];

beforeAll(async () => {
  lab = await Lab.create();
  home = await lab.home({ name: "home", nat: "port-restricted", hosts: ["alice", "bob", "carol"] });
  [, gateway] = await Promise.all([lab.host("outside"), HomeGateway.start(home)]);
  program = buildBinder(lab.node("alice").folder);
  // On a busy machine half a second may be over before the gateway has said whose a port is.
  const env = { ISTHMUS_NATBINDER_WAIT_MS: "10000" };
  [mine, theirs] = [new Natbinder(lab.node("alice"), { env }), new Natbinder(lab.node("bob"), { env })];
  await Promise.all([mine.start(), theirs.start()]);
});
afterAll(() => lab?.destroy());
afterEach(async () => {
  await Promise.all(binders.splice(0).map(({ program: one }) => one.destroy()));
  await Promise.all([mine.portsAre([]), theirs.portsAre([])]);
});

function binder(where: Natbinder = mine): Binder {
  const one = new Binder(where.run(program, [], { ends: true }));
  binders.push(one);
  return one;
}

function plainBinder(node: Node): Binder {
  const one = new Binder(node.spawn(program, [], { uid: 65_534, stdin: "pipe", ends: true }));
  binders.push(one);
  return one;
}

/** What the world hears at a port of the home. */
async function ask(port: number, proto: "tcp" | "udp", mostMs = 10_000): Promise<string> {
  const args = ["-e", ASK, home.address, String(port), proto, String(mostMs)];
  return (await lab.node("outside").read(NODE, args, { timeoutMs: 30_000 })).trim();
}

const entries = () => mappedPorts(home.router);

describe("a bind of a program under natbinder run", () => {
  it.each([
    ["tcp4", 12_000, "tcp"],
    ["tcp6", 12_001, "tcp"],
    ["mptcp4", 12_002, "tcp"],
    ["udp4", 12_000, "udp"],
    ["udp6", 12_001, "udp"],
  ] as const)("of %s %d is mapped, the world gets through, and SIGKILL unmaps it", async (kind, port, proto) => {
    const one = binder();
    const socket = await one.take(kind, port);
    await one.greet(socket);
    expect(await entries()).toEqual([`${proto} ${port} ${lab.node("alice").ipv4}`]);
    const { ports } = await mine.status();
    expect(ports).toMatchObject([{ protocol: proto, port, state: "mapped", owners: [{ program: "binder" }] }]);
    expect(await ask(port, proto)).toBe("hello");
    one.program.kill("SIGKILL");
    await mine.portsAre([]);
    expect(await entries()).toEqual([]);
  });

  it("of another host's port fails, and the same descriptor gets the next one", async () => {
    const [one, other] = [binder(), binder(theirs)];
    await other.take("tcp4", 12_010);
    const socket = await one.open("tcp4");
    expect(await one.bind(socket, 12_010)).toMatchObject({ result: "EADDRINUSE" });
    expect(await one.bind(socket, 12_011)).toMatchObject({ result: "ok" });
    const [alice, bob] = [lab.node("alice").ipv4, lab.node("bob").ipv4];
    expect(await entries()).toEqual([`tcp 12010 ${bob}`, `tcp 12011 ${alice}`]);
    await one.close(socket);
    await mine.portsAre([]);
    expect(await entries()).toEqual([`tcp 12010 ${bob}`]);
  });

  it("that is none of ours stays what it is, and nobody is asked", async () => {
    const one = binder();
    const asked = async () => /binds_total\{.*\} (\d+)/.exec(await mine.metrics())?.[1];
    const before = await asked();
    const bind = async (kind: Parameters<Binder["open"]>[0], address: string, port: number, ...options: string[]) =>
      (await one.bind(await one.open(kind, ...options), port, address)).result;
    expect(await bind("tcp4", "0.0.0.0", 0)).toBe("ok");
    expect(await bind("tcp4", "127.0.0.1", 12_020)).toBe("ok");
    expect(await bind("tcp6", "::1", 12_021)).toBe("ok");
    expect(await bind("tcp6", "::", 12_022, "v6only")).toBe("ok");
    expect(await bind("udp4", lab.node("alice").ipv4, 12_023)).toBe("ok");
    expect(await bind("tcp4", "0.0.0.0", 80)).toBe("EACCES");
    expect(await bind("tcp4", "192.0.2.1", 12_024)).toBe("EADDRNOTAVAIL");
    expect(await asked()).toBe(before);
    expect(await entries()).toEqual([]);
  });

  it("of a port that another program has fails as ever", async () => {
    const [one, other] = [binder(), plainBinder(lab.node("alice"))];
    await other.take("tcp4", 12_030);
    const socket = await one.open("tcp4");
    expect(await one.bind(socket, 12_030)).toMatchObject({ result: "EADDRINUSE" });
    expect(await one.bind(socket, 12_031)).toMatchObject({ result: "ok" });
    expect(await one.bind(socket, 12_032)).toMatchObject({ result: "EINVAL" });
    expect(await entries()).toEqual([`tcp 12031 ${lab.node("alice").ipv4}`]);
  });
});

describe("a port is unmapped when its last socket is gone", () => {
  it("of several with SO_REUSEPORT", async () => {
    const [one, other] = [binder(), binder()];
    const first = await one.take("tcp4", 12_040, "reuseport");
    await other.take("tcp4", 12_040, "reuseport");
    expect((await mine.status()).ports).toMatchObject([{ port: 12_040, owners: [{}, {}] }]);
    await one.close(first);
    await until("one owner", async () => (await mine.status()).ports[0]?.owners.length === 1 || undefined);
    expect(await entries()).toHaveLength(1);
    other.program.kill("SIGKILL");
    await mine.portsAre([]);
  });

  it("which a child may have inherited", async () => {
    const one = binder();
    await one.take("tcp4", 12_050);
    const child = await one.fork();
    one.program.kill("SIGKILL");
    await one.program.exited;
    await theirs.status();
    expect(await entries()).toHaveLength(1);
    process.kill(child, "SIGKILL");
    await mine.portsAre([]);
    expect(await entries()).toEqual([]);
  });

  it("also of a program that went into the background, and outlives who started it", async () => {
    const one = binder();
    const { pid, result } = await one.daemon(12_060);
    expect(result).toBe("ok");
    one.program.stdin.end();
    expect(await one.program.exited).toEqual({ code: 0, signal: null });
    await mine.portsAre(["tcp 12060"]);
    process.kill(pid, "SIGKILL");
    await mine.portsAre([]);
  });
});

describe("a gateway that hangs", () => {
  it("holds a bind up for half a second, the port is the program's meanwhile, and it is mapped in the end", async () => {
    const pid = Number(readFileSync(gateway.pidFile, "utf8"));
    const carols = await new Natbinder(lab.node("carol")).start();
    const [one, other] = [binder(carols), plainBinder(lab.node("carol"))];
    const [socket, gone, loser] = [await one.open("udp4"), await one.open("udp4"), await other.open("udp4")];
    process.kill(pid, "SIGSTOP");
    try {
      const binding = one.bind(socket, 12_070);
      await until("the port is taken", async () => {
        return (await lab.node("carol").read("ss", ["-Hlun", "sport = :12070"])) !== "" || undefined;
      });
      expect(await other.bind(loser, 12_070, "127.0.0.1")).toMatchObject({ result: "EADDRINUSE" });
      const { result, milliseconds } = await binding;
      expect(result).toBe("ok");
      expect(milliseconds).toBeGreaterThan(ANSWER_MS * 0.95);
      expect(milliseconds).toBeLessThan(ANSWER_MS + LATE_MS);
      await one.bind(gone, 12_071);
      await one.close(gone);
    } finally {
      process.kill(pid, "SIGCONT");
    }
    await carols.portsAre(["udp 12070"], 20_000);
    await until("the gateway has that one alone", async () => (await entries()).length === 1 || undefined);
    await one.program.destroy();
    await carols.portsAre([]);
    await carols.stop();
  });
});

describe("natbinder itself", () => {
  it("when it is killed and started again has what is open still, and nothing else", async () => {
    const [one, other] = [binder(), binder()];
    await one.take("tcp4", 12_080);
    await one.take("udp6", 12_080);
    await other.take("tcp4", 12_081);
    const onDisk = () => readFileSync(join(mine.state, "ideal-state.json"), "utf8").match(/"port":1208\d/g)?.length;
    await until("all is on disk", () => onDisk() === 3 || undefined);
    await mine.kill();
    other.program.kill("SIGKILL");
    await other.program.exited;
    expect(await entries()).toHaveLength(3);
    // Without it a bind is as ever.
    const { result, milliseconds } = await one.bind(await one.open("tcp4"), 12_082);
    expect(result).toBe("ok");
    expect(milliseconds).toBeLessThan(ANSWER_MS);
    await mine.start();
    await mine.portsAre(["tcp 12080", "udp 12080"]);
    expect((await entries()).map((entry) => entry.split(" ", 2).join(" "))).toEqual(["tcp 12080", "udp 12080"]);
    // Programs that run ask the new one.
    await one.take("tcp4", 12_083);
    await mine.portsAre(["tcp 12080", "udp 12080", "tcp 12083"]);
  });

  it("without a gateway lets binds be as they are, and maps them when there is one", async () => {
    await gateway.stop();
    await until("the gateway is gone", async () => (await mine.status()).gateway === undefined || undefined);
    const one = binder();
    const { result, milliseconds } = await one.bind(await one.open("tcp4"), 12_090);
    expect(result).toBe("ok");
    expect(milliseconds).toBeLessThan(ANSWER_MS);
    await gateway.startAgain();
    await mine.portsAre(["tcp 12090"]);
    expect(await entries()).toHaveLength(1);
  });

  it("heals what a gateway that starts anew has forgotten, and never touches another host's entry", async () => {
    const [one, other] = [binder(), binder(theirs)];
    await one.take("tcp4", 12_100);
    await other.take("tcp4", 12_101);
    await gateway.stop();
    await gateway.startAgain();
    const [alice, bob] = [lab.node("alice").ipv4, lab.node("bob").ipv4];
    await until("both are there again", async () => {
      return (await entries()).join() === [`tcp 12100 ${alice}`, `tcp 12101 ${bob}`].join() || undefined;
    });
  });

  it("runs once on a host", async () => {
    const second = new Natbinder(lab.node("alice"), { state: `${mine.state}-second` });
    await expect(second.start()).rejects.toThrow("ended with status 1");
    expect(second.program.output.lastLines()).toContain("another natbinder runs on this host");
    second.program.kill();
  });
});
