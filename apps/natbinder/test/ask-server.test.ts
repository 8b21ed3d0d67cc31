import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PortMapper } from "@isthmus/portmap";
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from "vitest";
import {
  cannotCompile,
  cannotRun,
  freshPort,
  listener,
  OTHER_HOST,
  RunProgram,
  skipAll,
  startNatbinder,
} from "./natbinder-at.ts";

vi.setConfig({ testTimeout: 60_000 });
const WAIT = { timeout: 30_000, interval: 10 };
const [IGNORED, SUCCEEDED] = ["7 0", "7 1"];

describe("whoever asks", () => {
  skipAll(cannotRun ?? cannotCompile);
  let folder: string;
  beforeAll(() => {
    if (cannotCompile !== undefined) return;
    folder = mkdtempSync(join(tmpdir(), "natbinder-asker-"));
    execFileSync("gcc", [join(import.meta.dirname, "fixtures/asker.c"), "-o", join(folder, "asker")]);
  });
  afterAll(() => {
    if (cannotCompile === undefined) rmSync(folder, { recursive: true, force: true });
  });

  /** What it was answered; it keeps what it holds until its input ends. */
  async function ask(path: string, ...how: string[]): Promise<{ child: ChildProcess; answer: string }> {
    const child = spawn(join(folder, "asker"), [path, ...how], { stdio: ["pipe", "pipe", "inherit"] });
    onTestFinished(() => void child.kill("SIGKILL"));
    let answer = "";
    child.stdout.on("data", (text: Buffer) => (answer += text.toString()));
    await expect.poll(() => answer, WAIT).toMatch(how[0] === "release" ? /released\n/ : /\n/);
    return { child, answer: answer.split("\n")[0]! };
  }

  it("and shows the socket that holds the port has it mapped, until that socket is gone", async () => {
    const { path, fake, binding } = await startNatbinder();
    const port = freshPort();
    const { child, answer } = await ask(path, "sound", String(port));
    expect(answer).toBe(SUCCEEDED);
    expect(fake.mappings.all).toMatchObject([{ protocol: "tcp", externalPort: port }]);
    expect(binding.entries).toMatchObject([
      { port, owners: [{ program: "asker", pid: child.pid, uid: process.getuid!() }] },
    ]);
    child.kill("SIGKILL");
    await expect.poll(() => fake.mappings.all, WAIT).toEqual([]);
    await expect.poll(() => binding.entries, WAIT).toEqual([]);
  });

  it("may let go of it by showing it again", async () => {
    const { path, fake } = await startNatbinder();
    await ask(path, "release", String(freshPort()));
    await expect.poll(() => fake.mappings.all, WAIT).toEqual([]);
  });

  it.each([["unbound"], ["other", String(freshPort())], ["file"], ["nothing"], ["garbage"]])(
    "without proof (%s) is turned away",
    async (...how) => {
      const { path, fake, binding, metrics } = await startNatbinder();
      expect((await ask(path, ...how)).answer).toBe("closed");
      expect(binding.entries).toEqual([]);
      expect(fake.mappings.all).toEqual([]);
      const reasons = ["malformed", "no-proof"].map((reason) => metrics.value("refused_total", { reason }));
      expect((await Promise.all(reasons)).sort()).toEqual([0, 1]);
      // Others are served.
      expect((await ask(path, "sound", String(freshPort()))).answer).toBe(SUCCEEDED);
    },
  );

  it("has a share and no more", async () => {
    const { path, fake } = await startNatbinder({}, { mostSocketsPerUser: 2 });
    for (const expected of [SUCCEEDED, SUCCEEDED, IGNORED]) {
      expect((await ask(path, "sound", String(freshPort()))).answer).toBe(expected);
    }
    expect(fake.mappings.all).toHaveLength(2);
  });
});

describe("a program under natbinder run", () => {
  skipAll(cannotRun);
  it("has its port mapped, and unmapped when it is killed", async () => {
    const { path, fake } = await startNatbinder();
    const port = freshPort();
    const program = new RunProgram(path, listener(port, "::"));
    await expect.poll(() => program.output, WAIT).toContain("listening");
    await expect.poll(() => fake.mappings.all, WAIT).toMatchObject([{ protocol: "tcp", externalPort: port }]);
    program.child.kill("SIGKILL");
    await once(program.child, "exit");
    await expect.poll(() => fake.mappings.all, WAIT).toEqual([]);
  });

  it("sees another host's port as one in use; 718 without such a host is no conflict", async () => {
    const { path, fake, binding } = await startNatbinder();
    const port = freshPort();
    const other = new PortMapper(fake.optionsFor(OTHER_HOST));
    onTestFinished(() => other.stop());
    await other.start();
    await other.map({ protocol: "tcp", internalPort: port, lifetimeSeconds: 600 });
    // The gateway may need longer than a program waits where much else is done.
    const refused = async () => {
      const program = new RunProgram(path, listener(port), { ISTHMUS_NATBINDER_WAIT_MS: "10000" });
      program.child.stdin?.end();
      await program.ended;
      return program.output;
    };
    await expect.poll(refused, WAIT).toBe("EADDRINUSE\n");
    expect(fake.mappings.all).toMatchObject([{ externalPort: port, internalAddress: OTHER_HOST }]);

    fake.settings.liesAboutConflicts = true;
    const lied = new RunProgram(path, listener(freshPort()));
    await expect.poll(() => lied.output, WAIT).toContain("listening");
    expect(binding.entries).toMatchObject([{ state: "waiting" }]);
  });
});
