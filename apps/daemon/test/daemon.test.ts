import { once } from "node:events";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { type AddressInfo, connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LoopbackBroker } from "@isthmus/broker/testing";
import { type StatusReport, statusReport } from "@isthmus/protocol";
import { startLoopbackRelay } from "@isthmus/relay/testing";
import { cannotChangeUser, type ProgramOptions, RunningProgram, runProgram } from "@isthmus/service/testing";
import { describe, expect, onTestFinished, test, vi } from "vitest";

const MAIN = join(import.meta.dirname, "..", "src", "main.ts");
const WAIT = { timeout: 20_000, interval: 20 };
// A process takes its time to start where others are at work.
vi.setConfig({ testTimeout: 120_000 });

/** A home for one daemon, with its configuration if there is one. */
function home(toml?: string) {
  const folder = mkdtempSync(join(tmpdir(), "isthmus-daemon-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, "daemon.toml");
  if (toml !== undefined) writeFileSync(file, toml);
  const socket = join(folder, "run", "s");
  const env = {
    HOME: folder,
    ISTHMUS_DAEMON_SOCKET: socket,
    ISTHMUS_DAEMON_DIRECT: "false",
    ...(toml === undefined ? {} : { XDG_CONFIG_HOME: folder }),
  };
  return { folder, socket, env, file, args: toml === undefined ? [] : ["--config", file] };
}

const run = (args: string[], env: NodeJS.ProcessEnv) => runProgram(MAIN, args, { env });

function start(args: string[], options: ProgramOptions): RunningProgram {
  const program = new RunningProgram(MAIN, args, options);
  onTestFinished(async () => void (await program.end("SIGKILL")));
  return program;
}

async function ready(args: string[], options: ProgramOptions): Promise<RunningProgram> {
  const program = start(args, options);
  await program.logged("ready");
  return program;
}

async function status(socketPath: string): Promise<StatusReport> {
  const asked = request({ socketPath, path: "/v1/status" }).end();
  const [response] = (await once(asked, "response")) as [AsyncIterable<Buffer>];
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk);
  return statusReport.parse(JSON.parse(Buffer.concat(chunks).toString()));
}

async function isbAndIst(): Promise<LoopbackBroker> {
  const isb = await new LoopbackBroker().start();
  const relay = await startLoopbackRelay(await isb.inviteIst(), home().folder);
  onTestFinished(async () => {
    await relay.stop();
    await isb.close();
  });
  return isb;
}

/** A service that greets. */
async function greeter(): Promise<number> {
  const server = createServer((socket) => socket.on("error", () => undefined).end("good day")).listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close());
  return (server.address() as AddressInfo).port;
}

async function greeting(address: string): Promise<string> {
  const [host, port] = address.split(":") as [string, string];
  const socket = connect({ host, port: Number(port) });
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

describe("the configuration", () => {
  test("comes from file, environment and flags, in this order, and shows no secret", async () => {
    const { env, args } = home(`
      leg_port = 1001
      log_level = "warn"
      device = "desk"
      invite = "isthmus1:secret"
      [[provide]]
      name = "web"
      channels = [{ id = "tcp", proto = "tcp", target = "127.0.0.1:80" }]
    `);
    const all = { ...env, ISTHMUS_DAEMON_LEG_PORT: "1002", ISTHMUS_DAEMON_LOG_LEVEL: "error" };
    const { status: code, stdout, stderr } = await run([...args, "--leg-port", "1003", "verify"], all);
    expect([code, stderr]).toEqual([0, ""]);
    expect(JSON.parse(stdout)).toMatchObject({
      leg_port: 1003,
      log_level: "error",
      device: "desk",
      invite: "[redacted]",
      socket: env.ISTHMUS_DAEMON_SOCKET,
      state: join(env.HOME, ".local", "state", "isthmus"),
      direct: false,
      provide: [{ name: "web", anyone: false, plain: false, allow: [] }],
      subscribe: [],
    });
    expect(stdout).not.toContain("secret");
  });

  test("is refused with status 2 where something in it is wrong, by name", async () => {
    const wrong: [string | undefined, NodeJS.ProcessEnv, string[], string][] = [
      ['[[provide]]\nname = "a"\ntarget = "b"', {}, [], "unknown key 'provide.0.target'"],
      ["leg_port = ", {}, [], "daemon.toml"],
      [undefined, { ISTHMUS_DAEMON_LEGPORT: "1" }, [], "ISTHMUS_DAEMON_LEGPORT"],
      [undefined, {}, ["--leg-port", "http"], "flags: leg_port"],
      [undefined, {}, ["--legport", "1"], "--legport"],
      [undefined, {}, ["--config", "/nowhere/daemon.toml"], "/nowhere/daemon.toml"],
    ];
    await Promise.all(
      wrong.map(async ([toml, changes, flags, said]) => {
        const { env, args } = home(toml);
        const result = await run([...args, ...flags, "verify"], { ...env, ...changes });
        expect(result).toMatchObject({ status: 2, stdout: "", stderr: expect.stringContaining(said) });
      }),
    );
  });

  test("is not needed to ask for help or the version", async () => {
    const { env } = home("nonsense");
    const [help, version] = await Promise.all([run(["--help"], env), run(["--version"], env)]);
    expect(help).toMatchObject({ status: 0, stdout: expect.stringContaining("verify") });
    expect(version).toMatchObject({ status: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) });
  });
});

describe("a daemon", () => {
  test("that is asked to end does so, and takes its socket along", async () => {
    const { env, socket, folder } = home();
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      const daemon = await ready([], { env });
      expect(statSync(socket).mode & 0o777).toBe(0o600);
      expect(await daemon.end(signal)).toBe(0);
      expect([daemon.stderr, existsSync(socket)]).toEqual(["", false]);
      expect(daemon.log.at(-1)).toMatchObject({ msg: "stopping", why: signal });
    }
    expect(statSync(join(folder, ".local/state/isthmus/device.pem")).mode & 0o777).toBe(0o600);
  });

  test("is the only one at its socket and in its state folder", async () => {
    const { env, socket, folder } = home();
    const daemon = await ready([], { env });
    const [sameSocket, sameState] = await Promise.all([
      run([], { ...env, ISTHMUS_DAEMON_STATE: join(folder, "other") }),
      run([], { ...env, ISTHMUS_DAEMON_SOCKET: join(folder, "other", "s") }),
    ]);
    expect(sameSocket).toMatchObject({
      status: 1,
      stderr: `isthmus-daemon: another daemon is running: ${socket} is in use\n`,
    });
    expect(sameState).toMatchObject({
      status: 1,
      stderr: `isthmus-daemon: another daemon is running: it uses ${join(folder, ".local/state/isthmus")}\n`,
    });
    expect((await status(socket)).pid).toBe(daemon.child.pid);
  });

  test("that was killed leaves nothing in the way of the next one, who is the same device", async () => {
    const isb = await isbAndIst();
    const { env, socket } = home();
    const invite = await isb.invite("alice");
    const first = await ready([], { env: { ...env, ISTHMUS_DAEMON_INVITE: invite } });
    await vi.waitFor(async () => expect((await status(socket)).isb?.state).toBe("up"), WAIT);
    const { device } = await status(socket);
    expect(await first.end("SIGKILL")).toBeUndefined();
    expect(existsSync(socket)).toBe(true);
    await ready([], { env });
    await vi.waitFor(async () => expect(await status(socket)).toMatchObject({ isb: { state: "up" }, device }), WAIT);
  });

  test("says what it cannot start with, with status 1, and leaves it as it is", async () => {
    const taken = createServer().listen(0, "::");
    await once(taken, "listening");
    onTestFinished(() => void taken.close());
    const { port } = taken.address() as AddressInfo;
    const state = (content: string, file: string) => {
      const { env, folder } = home();
      writeFileSync(join(folder, file), content);
      return { env: { ...env, ISTHMUS_DAEMON_STATE: folder }, path: join(folder, file), content };
    };
    const [json, form, key] = [
      state("garbage", "state.json"),
      state('{"version":1}', "state.json"),
      state("garbage", "device.pem"),
    ];
    const open = home();
    chmodSync(open.folder, 0o777);
    const [badJson, badForm, badKey, badPort, badFolder, noSocket] = await Promise.all([
      run([], json.env),
      run([], form.env),
      run([], key.env),
      run(["--leg-port", String(port)], { ...home().env, ISTHMUS_DAEMON_DIRECT: "true" }),
      run(["--socket", join(open.folder, "s")], open.env),
      run(["--socket", key.path], home().env),
    ]);
    expect(badJson.stderr).toBe(`isthmus-daemon: ${json.path} is not JSON: move it away to start afresh\n`);
    expect(badForm.stderr).toContain(`isthmus-daemon: ${form.path} cannot be used: services`);
    expect(badKey.stderr).toContain(`isthmus-daemon: cannot use the key file ${key.path}`);
    expect(badPort.stderr).toContain("EADDRINUSE");
    expect(badFolder.stderr).toContain(`others may write in ${open.folder}`);
    expect(noSocket.stderr).toBe(`isthmus-daemon: ${key.path} is not a socket\n`);
    const all = [badJson, badForm, badKey, badPort, badFolder, noSocket];
    expect(all.map(({ status: code }) => code)).toEqual([1, 1, 1, 1, 1, 1]);
    for (const { path, content } of [json, form, key]) expect(readFileSync(path, "utf8")).toBe(content);
  });

  test("goes on when nobody reads its log any more", async () => {
    const { env, socket } = home();
    const daemon = await ready(["--log-level", "debug"], { env });
    daemon.child.stdout!.destroy();
    for (let n = 0; n < 3; n++) {
      const asked = request({ socketPath: socket, path: "/v1/login", method: "POST" }).end();
      await once(asked, "response");
    }
    expect((await status(socket)).pid).toBe(daemon.child.pid);
    expect(await daemon.end()).toBe(0);
  });

  test("needs nobody at the keyboard: it logs in, provides and subscribes by its configuration", async () => {
    const isb = await isbAndIst();
    const port = await greeter();
    const bob = home(`
      invite = "${await isb.invite("bob")}"
      device = "server"
      [[provide]]
      name = "hello"
      anyone = true
      channels = [{ id = "tcp", proto = "tcp", target = "127.0.0.1:${port}" }]
      [[provide]]
      name = "twice"
      channels = [{ id = "a", proto = "tcp", target = "127.0.0.1:1" }, { id = "a", proto = "udp", target = "127.0.0.1:1" }]
    `);
    const alice = home(`
      invite = "${await isb.invite("alice")}"
      [[subscribe]]
      service = "hello@bob"
      listen = "127.0.0.1:0"
      [[subscribe]]
      service = "nonsense"
    `);
    // In whatever order: what is there later is waited for.
    const user = await ready(alice.args, { env: alice.env });
    const provider = await ready(bob.args, { env: bob.env });
    const subscription = await vi.waitFor(async () => {
      const [found] = (await status(alice.socket)).subscriptions;
      expect(found).toMatchObject({ service: "hello", state: "active" });
      return found!;
    }, WAIT);
    expect(await greeting(subscription.listen[0]!.address)).toBe("good day");
    expect(await status(bob.socket)).toMatchObject({
      device: { user: "bob", name: "server" },
      services: [{ name: "hello", state: "offered" }],
    });
    expect(await provider.logged("service twice")).toMatchObject({ code: "bad-request" });
    expect(await user.logged("subscription nonsense")).toMatchObject({ code: "bad-request" });
    expect(JSON.stringify([...user.log, ...provider.log])).not.toContain("isthmus1:");

    // Its invite is used up by then, and it keeps its port.
    expect(await user.end()).toBe(0);
    await ready(alice.args, { env: alice.env });
    await vi.waitFor(async () => {
      expect(await status(alice.socket)).toMatchObject({
        subscriptions: [{ id: subscription.id, state: "active", listen: subscription.listen }],
      });
    }, WAIT);
  });

  test("goes on without an account when its invite is refused", async () => {
    const isb = await isbAndIst();
    const { env, socket } = home();
    const used = await isb.invite("alice");
    await ready([], { env: { ...home().env, ISTHMUS_DAEMON_INVITE: used } }).then((other) =>
      other.logged("session up"),
    );
    const daemon = await ready([], { env: { ...env, ISTHMUS_DAEMON_INVITE: used } });
    expect(await daemon.logged("configuration: invite")).toMatchObject({ code: "invite-invalid", level: "error" });
    expect(await status(socket)).toEqual(expect.not.objectContaining({ isb: expect.anything() }));
  });

  test.for([65534, 4242])("runs as user %i, with no privilege at all", async (uid, { skip }) => {
    skip(cannotChangeUser !== undefined, cannotChangeUser);
    const isb = await isbAndIst();
    const folder = mkdtempSync(join(tmpdir(), "isthmus-daemon-"));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    chmodSync(folder, 0o1777);
    // As in a container: no entry in /etc/passwd, no runtime folder.
    const env = { HOME: folder, TMPDIR: folder, ISTHMUS_DAEMON_INVITE: await isb.invite("alice") };
    const daemon = await ready([], { env, uid });
    const socket = join(folder, `isthmus-${uid}`, "daemon.sock");
    expect([statSync(socket).uid, statSync(join(socket, "..")).mode & 0o777]).toEqual([uid, 0o700]);
    await vi.waitFor(async () => {
      expect(await status(socket)).toMatchObject({ isb: { state: "up" }, reachable: { state: "yes" } });
    }, WAIT);
    const { pid } = await status(socket);
    const proc = readFileSync(`/proc/${pid}/status`, "utf8");
    expect(proc).toContain(`Uid:\t${uid}\t${uid}\t${uid}\t${uid}`);
    expect(proc).toContain("CapEff:\t0000000000000000");
    expect(await daemon.end()).toBe(0);
  });
});
