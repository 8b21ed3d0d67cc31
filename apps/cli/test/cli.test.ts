import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { type AddressInfo, connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LoopbackBroker } from "@isthmus/broker/testing";
import { type LocalApiName, type LocalApiReply, localApi, logLine, type StatusReport } from "@isthmus/protocol";
import { startLoopbackRelay } from "@isthmus/relay/testing";
import { cannotChangeUser, type ProgramResult, RunningProgram, runProgram } from "@isthmus/service/testing";
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";

const MAIN = join(import.meta.dirname, "..", "src", "main.ts");
const DAEMON = join(import.meta.dirname, "..", "..", "daemon", "src", "main.ts");
const WAIT = { timeout: 20_000, interval: 20 };
// A process takes its time to start where others are at work.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

const folder = mkdtempSync(join(tmpdir(), "isthmus-cli-"));
const isb = new LoopbackBroker();
const ends: (() => unknown)[] = [() => rmSync(folder, { recursive: true, force: true })];

/** A user's daemon, and `isthmus` as that user runs it. */
class Person {
  readonly socket: string;
  readonly #home: string;
  daemon!: RunningProgram;

  constructor(name: string) {
    this.#home = join(folder, name);
    this.socket = join(this.#home, "run", "s");
    mkdirSync(this.#home);
  }

  async start(): Promise<this> {
    const args = ["--socket", this.socket, "--no-direct"];
    this.daemon = new RunningProgram(DAEMON, args, { env: { HOME: this.#home } });
    ends.push(() => this.daemon.end("SIGKILL"));
    await this.daemon.logged("ready");
    return this;
  }

  run(...args: string[]): Promise<ProgramResult> {
    return runProgram(MAIN, ["--socket", this.socket, ...args], { env: { HOME: this.#home } });
  }

  /** What it says to people. */
  async text(...args: string[]): Promise<string> {
    const { status, stdout, stderr } = await this.run(...args);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    return stdout;
  }

  async json<T>(...args: string[]): Promise<T> {
    return JSON.parse(await this.text(...args, "--json")) as T;
  }

  /** What it prints with `--json`, held to the daemon's own schema. */
  async answer<N extends LocalApiName>(name: N, ...args: string[]): Promise<LocalApiReply<N>> {
    return localApi[name].reply.strict().parse(await this.json(...args)) as LocalApiReply<N>;
  }

  /** The daemon's own word, to be asked for again and again. */
  async status(): Promise<StatusReport> {
    const asked = request({ socketPath: this.socket, path: localApi.status.path }).end();
    const [response] = (await once(asked, "response")) as [AsyncIterable<Buffer>];
    const chunks: Buffer[] = [];
    for await (const chunk of response) chunks.push(chunk);
    return JSON.parse(Buffer.concat(chunks).toString()) as StatusReport;
  }

  /** How it fails: what people read, and what programs do. */
  async failure(...args: string[]): Promise<{ said: string; code: string }> {
    // One after the other: whoever subscribes twice at once may hear that it has subscribed already.
    const people = await this.run(...args);
    const programs = await this.run(...args, "--json");
    expect([people.status, people.stdout, programs.status]).toEqual([1, "", 1]);
    expect(programs.stderr).toBe(people.stderr);
    const { error } = JSON.parse(programs.stdout) as { error: { code: string; message: string } };
    expect(people.stderr).toBe(`isthmus: ${error.message}\n`);
    return { said: error.message, code: error.code };
  }
}

const [alice, bob] = [new Person("alice"), new Person("bob")];
let target: string;

beforeAll(async () => {
  await isb.start();
  const relay = await startLoopbackRelay(await isb.inviteIst(), join(folder, "ist"));
  ends.push(async () => {
    await relay.stop();
    await isb.close();
  });
  const server = createServer((socket) => socket.on("error", () => undefined).end("good day")).listen(0, "127.0.0.1");
  await once(server, "listening");
  ends.push(() => server.close());
  target = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  await Promise.all([alice.start(), bob.start()]);
});
afterAll(async () => {
  for (const end of ends.reverse()) await end();
});

async function greeting(address: string): Promise<string> {
  const socket = connect({ host: "127.0.0.1", port: Number(address.split(":")[1]) });
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

describe("before a login", () => {
  test("there is not much to say", async () => {
    expect(await alice.text("status")).toMatch(
      /^device +not logged in\nkey +[a-z2-7]{32}\nISB +none: 'isthmus login INVITE'\nreachable off\n$/,
    );
    expect(await alice.text("trust")).toBe("no key is pinned yet\n");
    expect(await alice.failure("list")).toEqual({
      code: "not-logged-in",
      said: "not logged in: 'isthmus login INVITE'",
    });
    expect(await alice.failure("login", "isthmus1:nonsense")).toMatchObject({ code: "invite-invalid" });
  });

  test("a service may be provided all the same", async () => {
    const said = await bob.text("provide", "later", "--tcp", "127.0.0.1:1");
    expect(said).toMatch(/later +offline +tcp\/tcp 127\.0\.0\.1:1 +own devices only +0 +0/);
    expect(said).toContain("it will be offered when this device is logged in");
    expect(said).toContain("add --allow USER or --anyone");
    expect(await bob.text("withdraw", "later")).toBe("later is not offered any more\n");
  });
});

describe("with an account", () => {
  test("every command says to people what it did, and to programs what the daemon answered", async () => {
    const [forAlice, forBob] = await Promise.all([isb.invite("alice"), isb.invite("bob")]);
    const [said, answered] = await Promise.all([
      alice.text("login", forAlice, "--device", "laptop"),
      bob.answer("login", "login", forBob, "--device", "server"),
    ]);
    expect(said).toMatch(/^logged in .*alice.*laptop/);
    expect(answered).toMatchObject({ user: "bob", device: "server" });

    const flags = ["--tcp", target, "--udp", "127.0.0.1:9", "--channel", "admin/tcp=127.0.0.1:8", "--allow", "alice"];
    expect(await bob.text("provide", "web", ...flags, "--description", "a\u001b[31mred")).toMatch(
      /^SERVICE .*\nweb +offered +tcp\/tcp \S+, udp\/udp \S+, admin\/tcp \S+ +alice +0 +0\n$/,
    );
    expect(await bob.answer("provide", "provide", "call", "--channel", "back/udp:provider", "--anyone")).toMatchObject({
      channels: [{ id: "back", proto: "udp", opener: "provider" }],
      anyone: true,
    });

    const [listed, entries] = await Promise.all([
      alice.text("list"),
      alice.json<unknown[]>("list", "--user", "bob", "--service", "web", "--away"),
    ]);
    expect(listed).toMatch(
      /^SERVICE .*\ncall@bob +present +back\/udp +server\nweb@bob +present +tcp, udp, admin\/tcp +server +a\?\[31mred\n$/,
    );
    expect(entries).toEqual([expect.objectContaining({ service: "web", user: "bob", present: true })]);

    const subscribed = await alice.text("subscribe", "web@bob", "--listen", "127.0.0.1:0");
    expect(subscribed).toMatch(/^SUBSCRIPTION .*\nweb@bob +active +127\.0\.0\.1:\d+\/tcp, 127\.0\.0\.1:\d+\/udp, /);
    const { subscriptions } = await alice.answer("status", "status");
    const { id, listen } = subscriptions[0]!;
    expect(await greeting(listen[0]!.address)).toBe("good day");

    const [aliceStatus, bobStatus, explained, explanation] = await Promise.all([
      alice.text("status"),
      bob.text("status"),
      alice.text("explain", "web@bob"),
      alice.json("explain", id),
    ]);
    expect(aliceStatus).toMatch(/^device +alice, device laptop\n/);
    expect(aliceStatus).toMatch(/\nIST +ist ws:\/\/127\.0\.0\.1:\d+ up\n/);
    expect(aliceStatus).toMatch(/\nweb@bob +active /);
    expect(bobStatus).toMatch(/\nweb@bob +offered .* alice +1 +\d\n/);
    expect(explained).toMatch(/^web@bob: active\n {2}provider's key +[a-z2-7]{32}\n {2}data +encrypted end to end\n/);
    expect(explained).toMatch(/\n {2}connections +cell: IST ist, cells \d/);
    expect(explained).toMatch(/\n {2}tried direct +neither side proved reachable\n/);
    expect(explanation).toMatchObject({ id, service: "web", state: "active" });

    const [trusted, pins, devices, invite, logs, lines] = await Promise.all([
      alice.text("trust"),
      alice.json("trust"),
      alice.text("devices"),
      alice.answer("invite", "invite", "--lifetime", "600"),
      alice.text("logs", "-n", "1"),
      alice.text("logs", "--json"),
    ]);
    expect(trusted).toMatch(/^PEER .*\nweb@bob +[a-z2-7]{32} +\d{4}-/);
    expect(pins).toEqual([expect.objectContaining({ peer: "web@bob" })]);
    expect(devices).toMatch(/^DEVICE .*\nlaptop \(this one\) +[a-z2-7]{32} .* present\n$/);
    expect(invite.invite).toMatch(/^isthmus1:/);
    expect(logs).toMatch(/^\d\d:\d\d:\d\d info +daemon: .*\n$/);
    const parsed = lines
      .trimEnd()
      .split("\n")
      .map((line) => logLine.parse(JSON.parse(line)));
    expect(parsed.map(({ msg }) => msg)).toContain("subscribed");

    expect(await alice.text("trust", "web@bob", "--forget")).toBe("the key of web@bob is forgotten\n");
    expect(await alice.text("unsubscribe", "web@bob")).toBe("not subscribed to web@bob any more\n");
    expect(await bob.answer("withdraw", "withdraw", "call")).toEqual({});
    expect(await alice.text("rotate-key")).toMatch(/^the key of this device is now [a-z2-7]{32}\n$/);
    expect(await alice.answer("rotate", "rotate-key")).toEqual({
      fingerprint: expect.stringMatching(/^[a-z2-7]{32}$/),
    });
  });

  test("what is refused has its code, and a sentence", async () => {
    await vi.waitFor(async () => expect((await alice.status()).isb?.state).toBe("up"), WAIT);
    const failures = await Promise.all([
      alice.failure("subscribe", "ssh@bob"),
      alice.failure("explain", "web@bob"),
      bob.failure("provide", "Web", "--tcp", target),
    ]);
    expect(failures).toEqual([
      { code: "unknown-service", said: "that user provides no service of this name" },
      { code: "no-such-subscription", said: "there is no subscription 'web@bob'" },
      { code: "bad-request", said: expect.stringContaining("name") },
    ]);
  });

  test("a port of this host is looked at from outside, and what was seen decides the status", async () => {
    const port = target.split(":")[1]!;
    expect(await alice.text("probe", port)).toBe(`${target} is reachable: a connection came through\n`);
    expect(await alice.answer("probe", "probe", port)).toEqual({ address: "127.0.0.1", outcome: "reachable" });
    const answers = await Promise.all([
      alice.run("probe", `${port}/udp`),
      alice.run("probe", port, "--address", "192.0.2.1"),
      alice.run("probe", "2", "--json"),
      alice.run("probe", "0"),
    ]);
    expect(answers.map(({ status }) => status)).toEqual([1, 1, 1, 2]);
    const [udp, elsewhere, low, none] = answers.map(({ stdout, stderr }) => stdout + stderr);
    expect(udp).toContain("over UDP cannot be told");
    expect(elsewhere).toContain("sees this host at 127.0.0.1: another NAT (CGNAT or double NAT)");
    expect(low).toContain('"code":"bad-request"');
    expect(none).toContain("is not PORT, PORT/tcp or PORT/udp");
  });

  test("an invite is for another device; names are one device's at a time, and devices can be revoked", async () => {
    const { invite } = await bob.answer("invite", "invite");
    const desk = await new Person("desk").start();
    await desk.text("login", invite, "--device", "desk");
    expect(await desk.failure("provide", "web", "--tcp", target)).toMatchObject({ code: "name-taken" });
    expect(await desk.text("provide", "web", "--tcp", target, "--allow", "alice", "--take")).toMatch(/\nweb +offered /);
    const devices = await bob.json<{ name: string; fingerprint: string }[]>("devices");
    const { fingerprint } = devices.find(({ name }) => name === "desk")!;
    expect(await bob.text("revoke", fingerprint)).toBe("revoked\n");
    expect(await bob.text("devices")).toMatch(/\ndesk +[a-z2-7]{32} .* revoked\n/);
    await vi.waitFor(async () => expect((await desk.status()).isb?.code).toBe("device-revoked"), WAIT);
    expect(await desk.text("status")).toMatch(/\nISB .* this device key was revoked\n/);
    await bob.text("provide", "web", "--tcp", target, "--allow", "alice");
  });

  test("what takes long says so on a terminal, and nothing into a pipe", async () => {
    const { status, stdout, stderr } = await alice.run("subscribe", "web@bob", "--wait", "30");
    expect([status, stderr]).toEqual([0, ""]);
    expect(stdout).not.toContain("\u001b");
    await alice.text("unsubscribe", "web@bob");
    const command = [process.execPath, "--conditions=source", MAIN, "--socket", alice.socket];
    const typed = [...command, "subscribe", "web@bob", "--wait", "30"].map((part) => `'${part}'`).join(" ");
    // Where tests run unattended there may be no terminal to speak of.
    const env = { PATH: process.env.PATH, TERM: "xterm-256color" };
    const terminal = execFile("script", ["-qec", typed, "/dev/null"], { env });
    let shown = "";
    terminal.stdout!.on("data", (text: string) => (shown += text));
    await once(terminal, "close");
    expect(shown).toContain("waiting for web@bob up to 30 s ...");
    expect(shown).toContain("\u001b[32mactive");
    await alice.text("unsubscribe", "web@bob");
  });

  test("whoever gives up waiting is not subscribed later", async () => {
    await bob.daemon.end();
    expect(await alice.failure("subscribe", "web@bob")).toMatchObject({ code: "provider-away" });
    const waiting = new RunningProgram(MAIN, ["--socket", alice.socket, "subscribe", "web@bob", "--wait"], { env: {} });
    await vi.waitFor(async () => {
      expect((await alice.status()).subscriptions).toMatchObject([{ state: "negotiating" }]);
    }, WAIT);
    await waiting.end("SIGINT");
    await vi.waitFor(async () => expect((await alice.status()).subscriptions).toEqual([]), WAIT);
    await bob.start();
    await vi.waitFor(async () => expect((await bob.status()).services).toMatchObject([{ state: "offered" }]), WAIT);
  });

  test("what is followed comes line by line, and ends well by Ctrl-C alone", async () => {
    const follow = (...args: string[]) => {
      const child = spawn(process.execPath, ["--conditions=source", MAIN, "--socket", bob.socket, ...args]);
      const seen = { out: "", err: "" };
      child.stdout.on("data", (text: Buffer) => (seen.out += text.toString()));
      child.stderr.on("data", (text: Buffer) => (seen.err += text.toString()));
      onTestFinished(() => void child.kill("SIGKILL"));
      return { child, seen, ended: once(child, "close") };
    };
    const [watch, watchJson, logs, logsJson] = [
      follow("watch"),
      follow("watch", "--json"),
      follow("logs", "-f", "-n", "0"),
      follow("logs", "--follow", "--json"),
    ];
    await vi.waitFor(() => expect(watch.seen.out).toMatch(/^\S+Z present web@bob\n/), WAIT);
    await vi.waitFor(() => expect(watchJson.seen.out).toMatch(/^\{"event":"present",.*\}\n$/), WAIT);
    await vi.waitFor(() => expect(logsJson.seen.out).toContain('"msg":"ready"'), WAIT);
    await alice.text("subscribe", "web@bob");
    await vi.waitFor(() => expect(logs.seen.out).toMatch(/info +daemon: accepted /), WAIT);
    expect(logs.seen.out).not.toContain("ready");
    await vi.waitFor(() => expect(logsJson.seen.out).toContain('"msg":"accepted"'), WAIT);
    for (const { child } of [watch, logs]) child.kill("SIGINT");
    expect([(await watch.ended)[0], (await logs.ended)[0], watch.seen.err]).toEqual([0, 0, ""]);
    await bob.daemon.end();
    expect([(await watchJson.ended)[0], (await logsJson.ended)[0]]).toEqual([1, 1]);
    expect(watchJson.seen.err).toBe(`isthmus: the daemon at ${bob.socket} has gone\n`);
  });

  test("a reader that has seen enough is no failure", async () => {
    const command = [process.execPath, "--conditions=source", MAIN, "--socket", alice.socket, "logs", "--json"];
    const piped = `set -o pipefail; ${command.map((part) => `'${part}'`).join(" ")} | head -n 1`;
    const child = execFile("bash", ["-c", piped]);
    let out = "";
    child.stdout!.on("data", (text: string) => (out += text));
    expect(await once(child, "close")).toEqual([0, null]);
    expect(out.trimEnd().split("\n")).toHaveLength(1);
  });

  test("a logout ends it", async () => {
    expect(await alice.text("logout")).toBe("logged out\n");
    expect(await alice.answer("status", "status")).toMatchObject({ subscriptions: [], services: [] });
    expect(await alice.answer("logout", "logout")).toEqual({});
  });
});

describe("the command line", () => {
  test("that is wrong is answered with status 2, by name", async () => {
    const wrong: [string[], string][] = [
      [[], "Usage: isthmus"],
      [["frobnicate"], "unknown command 'frobnicate'"],
      [["login"], "missing required argument 'invite'"],
      [["provide", "web"], "say where the service is"],
      [["provide", "web", "--tcp", "80"], "is not HOST:PORT"],
      [["provide", "web", "--channel", "admin=127.0.0.1:1"], "ID/udp:provider"],
      [["subscribe", "web@bob", "--wait", "soon"], "is not a number of seconds"],
      [["subscribe", "web@bob", "--accept", "127.0.0.1:1"], "is not CHANNEL=HOST:PORT"],
    ];
    await Promise.all(
      wrong.map(async ([args, said]) => {
        const { status, stdout, stderr } = await alice.run(...args);
        expect({ args, status, stdout }).toEqual({ args, status: 2, stdout: "" });
        expect(stderr).toContain(said);
      }),
    );
    const { status, stdout } = await alice.run("provide", "web", "--json");
    expect([status, JSON.parse(stdout)]).toEqual([
      2,
      { error: { code: "usage", message: expect.stringContaining("say where the service is") } },
    ]);
  });

  test("helps, and knows its version", async () => {
    const [help, version] = await Promise.all([alice.text("--help"), alice.text("--version")]);
    expect(help).toContain("rotate-key");
    expect(version).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

describe("the daemon's socket", () => {
  test("where nobody is says how to start one", async () => {
    const nobody = new Person("nobody");
    const said = `no daemon answers at ${nobody.socket}: start it with 'isthmus-daemon'`;
    expect(await nobody.failure("status")).toEqual({ code: "disconnected", said });
    mkdirSync(join(nobody.socket, ".."));
    writeFileSync(nobody.socket, "");
    expect(await nobody.failure("watch")).toEqual({ code: "disconnected", said });
  });

  test("is found by the environment", async () => {
    const env = { ISTHMUS_SOCKET: join(folder, "nowhere", "s") };
    const { status, stderr } = await runProgram(MAIN, ["status"], { env });
    expect([status, stderr]).toEqual([1, expect.stringContaining(`no daemon answers at ${env.ISTHMUS_SOCKET}`)]);
  });

  /** Somebody who waits for secrets. @returns how many came */
  async function trap(path: string): Promise<{ readonly visits: number }> {
    let visits = 0;
    const server = createServer((socket) => {
      visits++;
      socket.destroy();
    }).listen(path);
    await once(server, "listening");
    chmodSync(path, 0o777);
    onTestFinished(() => void server.close());
    return {
      get visits() {
        return visits;
      },
    };
  }

  test("in a folder where others may write is not used", async () => {
    const place = mkdtempSync(join(folder, "open-"));
    chmodSync(place, 0o777);
    const socket = join(place, "s");
    const trapped = await trap(socket);
    const { status, stderr } = await runProgram(MAIN, ["--socket", socket, "login", "isthmus1:secret"], { env: {} });
    expect([status, stderr]).toEqual([1, `isthmus: others may write in ${place}: 'chmod 700' it\n`]);
    expect(trapped.visits).toBe(0);
  });

  test("of another user is not used, neither in that one's folder nor in one like /tmp", async ({ skip }) => {
    skip(cannotChangeUser !== undefined, cannotChangeUser);
    const place = mkdtempSync(join(tmpdir(), "isthmus-cli-"));
    onTestFinished(() => rmSync(place, { recursive: true, force: true }));
    chmodSync(place, 0o1777);
    const theirs = join(place, "isthmus-4242");
    mkdirSync(theirs);
    chownSync(theirs, 65534, 65534);
    chmodSync(theirs, 0o755);
    const [inTheirs, inShared] = [join(theirs, "daemon.sock"), join(place, "s")];
    const traps = [await trap(inTheirs), await trap(inShared)];
    for (const socket of [inTheirs, inShared]) chownSync(socket, 65534, 65534);
    const login = (args: string[], uid?: number) =>
      runProgram(MAIN, [...args, "login", "isthmus1:secret"], {
        env: { TMPDIR: place },
        ...(uid === undefined ? {} : { uid }),
      });
    const [byDefault, shared, asRoot] = await Promise.all([
      // Its own default place, which somebody else was quicker to make.
      login([], 4242),
      login(["--socket", inShared], 4242),
      login(["--socket", inTheirs]),
    ]);
    expect(byDefault).toMatchObject({
      status: 1,
      stderr: `isthmus: ${theirs} belongs to user 65534, not to this one\n`,
    });
    expect(shared).toMatchObject({
      status: 1,
      stderr: `isthmus: ${inShared} belongs to user 65534, not to this one\n`,
    });
    expect(asRoot).toMatchObject({ status: 1, stderr: expect.stringContaining("belongs to user 65534") });
    expect(traps.map(({ visits }) => visits)).toEqual([0, 0]);
  });
});
