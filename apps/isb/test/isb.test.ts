import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmod, mkdir, readFile, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { decodeInvite, isbDaemon } from "@isthmus/protocol";
import { createIdentity, silentLogger } from "@isthmus/service";
import { BACKOFF_TO_ISB, SessionClient } from "@isthmus/session";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { place, run, serve } from "./program.ts";

/** Logs in with nothing but what an invite says, as a user's daemon does. */
async function logInWith(text: string): Promise<SessionClient<typeof isbDaemon>> {
  const { addresses, secure, isb, certificate, token } = decodeInvite(text);
  const client = new SessionClient<typeof isbDaemon>({
    protocol: isbDaemon,
    identity: createIdentity(),
    role: "daemon",
    serverRole: "isb",
    target: {
      origins: addresses.map((address) => `${secure ? "wss" : "ws"}://${address}`),
      expect: { fingerprint: isb },
      ...(certificate === undefined ? {} : { certificate }),
    },
    boot: randomBytes(8).toString("hex"),
    registration: () => ({ invite: token, device: "desk" }),
    allowInsecure: false,
    backoff: BACKOFF_TO_ISB,
    handlers: {
      requests: { ask: () => ({ handshake: "AAAA" }) },
      events: {
        told: () => undefined,
        renegotiate: () => undefined,
        ended: () => undefined,
        directory: () => undefined,
        reachability: () => undefined,
      },
    },
    logger: silentLogger(),
  });
  onTestFinished(() => client.stop());
  client.start();
  await client.whenUp(AbortSignal.timeout(15_000));
  return client;
}

describe("isthmus-isb", () => {
  test("runs without configuration, and its invite is all that a daemon needs", async () => {
    const { folder, port, adminPort, env } = await place();
    // The addresses of this host's interfaces stand in invites; on all of them, then.
    const isb = await serve({ ...env, ISTHMUS_ISB_LISTEN: `[::]:${port}` });
    expect(isb.log.map(({ msg }) => msg)).toContainEqual(expect.stringContaining("isthmus-isb invite NAME"));

    const invited = await run(["invite", "alice", "--uses", "2", "--lifetime", "7d"], env);
    expect(invited).toMatchObject({ status: 0, stderr: "" });
    const client = await logInWith(invited.stdout);
    expect(client.login?.reply).toMatchObject({ user: "alice", device: "desk" });
    expect(decodeInvite((await run(["invite-ist"], env)).stdout)).toMatchObject({ role: "ist", secure: true });
    const json = JSON.parse((await run(["invite", "bob", "--json"], env)).stdout) as {
      invite: string;
      expires: string;
    };
    expect(decodeInvite(json.invite).user).toBe("bob");

    const document = JSON.parse((await run(["openapi"], env)).stdout) as { openapi: string; info: { version: string } };
    expect(document).toMatchObject({ openapi: "3.1.0", info: { version: "0.1.0" } });
    const health = await fetch(`http://127.0.0.1:${adminPort}/readyz`);
    expect(health.status).toBe(200);

    const data = join(folder, ".local", "state", "isthmus-isb");
    for (const file of ["isb.pem", "admin-token", "tls-key.pem"]) {
      expect((await stat(join(data, file))).mode & 0o777).toBe(0o600);
    }
    await client.stop();
    expect(await isb.stop()).toBe(0);
  });

  test("is the same one after a restart", async () => {
    const { env } = await place();
    const first = await serve(env, ["--tls", "off"]);
    const client = await logInWith((await run(["invite", "alice"], env)).stdout);
    expect(await first.stop()).toBe(0);
    const second = await serve(env, ["--tls", "off"]);
    expect(second.log.map(({ msg }) => msg)).not.toContainEqual(expect.stringContaining("nobody is registered"));
    await client.whenUp(AbortSignal.timeout(15_000));
    expect(client.login?.reply).toMatchObject({ user: "alice", device: "desk" });
    expect(await second.stop()).toBe(0);
  });

  test("takes its settings from file, environment and flags, in this order", async () => {
    const { folder, env } = await place();
    const file = join(folder, "isb.toml");
    await writeFile(
      file,
      `grace_seconds = 5\nheartbeat_seconds = 7\nlog_level = "warn"\nstore = "redis://isb:secret@redis:6379"\n[admin]\ntoken = "0123456789abcdef"\n`,
    );
    const { status, stdout } = await run(["--config", file, "--log-level", "error", "verify"], {
      ...env,
      ISTHMUS_ISB_GRACE_SECONDS: "6",
    });
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      grace_seconds: 6,
      heartbeat_seconds: 7,
      log_level: "error",
      listen: env.ISTHMUS_ISB_LISTEN,
      store: "redis://[redacted]@redis:6379",
      admin: { token: "[redacted]" },
    });
  });

  test.each<[string, string[], NodeJS.ProcessEnv, string]>([
    ["an unknown key", ["verify"], { ISTHMUS_ISB_GRACE: "1" }, "ISTHMUS_ISB_GRACE"],
    ["a value that is none", ["verify"], { ISTHMUS_ISB_GRACE_SECONDS: "soon" }, "grace_seconds"],
    ["ws on all addresses", ["--listen", "[::]:7443", "--tls", "off", "verify"], {}, "loopback"],
    ["a proxy without its address", ["--tls", "proxy", "verify"], {}, "public"],
    ["a certificate without key", ["--cert", "/x.pem", "verify"], {}, "tls"],
    ["an unknown flag", ["--nonsense"], {}, "--nonsense"],
    ["an unknown command", ["frobnicate"], {}, "frobnicate"],
    ["a time without unit", ["invite", "alice", "--lifetime", "24"], {}, "24h"],
    ["a user that is missing", ["invite"], {}, "user"],
  ])("refuses %s with status 2", async (_what, args, changes, said) => {
    const { env } = await place();
    const { status, stderr } = await run(args, { ...env, ...changes });
    expect(stderr).toContain(said);
    expect(status).toBe(2);
  });

  test("says what is wrong when there is no ISB to ask, or it says no", async () => {
    const { env } = await place();
    expect(await run(["invite", "alice"], env)).toMatchObject({
      status: 1,
      stderr: expect.stringContaining("has an ISB run with this data folder?"),
    });
    const isb = await serve(env, ["--tls", "off"]);
    const wrong = { ...env, ISTHMUS_ISB_ADMIN__TOKEN: "not-the-right-token" };
    expect(await run(["invite", "alice"], wrong)).toMatchObject({
      status: 1,
      stderr: expect.stringContaining("not-allowed"),
    });
    expect(await run(["invite", "Not A Name"], env)).toMatchObject({
      status: 1,
      stderr: expect.stringContaining("bad-request"),
    });
    await isb.stop();
    expect(await run(["invite", "alice"], env)).toMatchObject({
      status: 1,
      stderr: expect.stringContaining("is it running?"),
    });
  });

  test("does not start twice on one data folder, nor on a port that is taken", async () => {
    const { env } = await place();
    await serve(env, ["--tls", "off"]);
    const again = await run(["--tls", "off"], env);
    expect(again.status).toBe(1);
    expect(again.stderr).toContain("another process has it open");
    const other = await place();
    const taken = await run(["--tls", "off"], { ...other.env, ISTHMUS_ISB_LISTEN: env.ISTHMUS_ISB_LISTEN });
    expect(taken.status).toBe(1);
    expect(taken.stderr).toContain("EADDRINUSE");
  });

  test("carries an IST along that is registered by itself, and is the same one after a restart", async () => {
    const { folder, adminPort, env } = await place();
    const withIst = {
      ...env,
      ISTHMUS_ISB_WITH_IST: "true",
      ISTHMUS_ISB_IST__LISTEN__PORT: "0",
      ISTHMUS_ISB_IST__LISTEN__ADDRESSES: '["127.0.0.1"]',
      ISTHMUS_ISB_IST__PUBLIC: '["127.0.0.1"]',
      ISTHMUS_ISB_IST__LOCK: `isb-test-${randomBytes(4).toString("hex")}`,
      ISTHMUS_ISB_IST__DRAIN_SECONDS: "0",
      ISTHMUS_ISB_IST__DATA_PATH__DRIVER: "userspace",
    };
    // Logins are for the public address alone; the IST comes over loopback all the same.
    const args = ["--public", "wss://isb.example:443"];
    const fingerprints = new Set<string>();
    for (let start = 0; start < 2; start++) {
      const isb = await serve(withIst, args);
      const token = await readFile(join(folder, ".local", "state", "isthmus-isb", "admin-token"), "utf8");
      const headers = { authorization: `Bearer ${token.trim()}` };
      const ists = async () => {
        const response = await fetch(`http://127.0.0.1:${adminPort}/v1/ists`, { headers });
        return ((await response.json()) as { items: { fingerprint: string; load?: { room: number } }[] }).items;
      };
      await vi.waitUntil(async () => (await ists()).every(({ load }) => load) && (await ists()).length === 1, {
        timeout: 15_000,
        interval: 50,
      });
      fingerprints.add((await ists())[0]!.fingerprint);
      const metrics = await (await fetch(`http://127.0.0.1:${adminPort}/metrics`)).text();
      expect(metrics).toContain("isthmus_isb_ist_sessions 1");
      expect(metrics).toContain("isthmus_ist_");
      expect(await isb.stop()).toBe(0);
    }
    expect(fingerprints.size).toBe(1);
  }, 60_000);

  test("says its version and helps", async () => {
    const { env } = await place();
    expect((await run(["--version"], env)).stdout.trim()).toBe("0.1.0");
    const help = await run(["--help"], env);
    expect(help.status).toBe(0);
    for (const command of ["serve", "invite", "invite-ist", "verify", "openapi"])
      expect(help.stdout).toContain(command);
  });
});

describe("the launcher", () => {
  const launcher = join(import.meta.dirname, "..", "bin", "isthmus-isb");

  /** A copy of the launcher in a folder of its own, with a program that says which Node runs it. */
  async function installed(folder: string): Promise<string> {
    await mkdir(join(folder, "app", "bin"), { recursive: true });
    await mkdir(join(folder, "app", "dist"));
    const copy = join(folder, "app", "bin", "isthmus-isb");
    await writeFile(copy, await readFile(launcher));
    await chmod(copy, 0o755);
    await writeFile(join(folder, "app", "dist", "main.js"), "console.log(process.version, process.argv[2])");
    return copy;
  }

  test("takes the Node that the tree brings along, through links too", async () => {
    const { folder } = await place();
    const copy = await installed(folder);
    await mkdir(join(folder, "node_modules", ".bin"), { recursive: true });
    await symlink(process.execPath, join(folder, "node_modules", ".bin", "node"));
    const link = join(folder, "link");
    await symlink(copy, link);
    expect(launch(link, "/usr/bin:/bin")).toEqual({ status: 0, output: `${process.version} hello\n` });
  });

  test("takes the system's Node if it is new enough, and says so if not", async () => {
    const { folder } = await place();
    const copy = await installed(folder);
    const bin = join(folder, "path");
    await mkdir(bin);
    await symlink(process.execPath, join(bin, "node"));
    expect(launch(copy, `${bin}:/usr/bin:/bin`)).toEqual({ status: 0, output: `${process.version} hello\n` });
    const old = join(folder, "old");
    await mkdir(old);
    await writeFile(join(old, "node"), "#!/bin/sh\nexit 1\n", { mode: 0o755 });
    expect(launch(copy, `${old}:/usr/bin:/bin`)).toMatchObject({
      status: 1,
      output: expect.stringContaining("Node 24"),
    });
  });
});

function launch(file: string, path: string): { status: number; output: string } {
  try {
    const output = execFileSync(file, ["hello"], { env: { PATH: path }, encoding: "utf8", stdio: "pipe" });
    return { status: 0, output };
  } catch (error) {
    const { status, stderr } = error as { status: number; stderr: string };
    return { status, output: stderr };
  }
}
