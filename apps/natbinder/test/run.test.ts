import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, statSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { SocketDoor } from "@isthmus/native/sockets";
import { readAskRequest, writeAskReply } from "@isthmus/protocol";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { cannotRun, freshPort, listener, newFolder, PlainProgram, RUN, RunProgram, skipAll } from "./natbinder-at.ts";

// A process takes its time to start where others are at work.
vi.setConfig({ testTimeout: 60_000 });
const WAIT = { timeout: 30_000, interval: 10 };

/** A natbinder that answers as the test says: a word, bytes, nothing at all, or by closing. */
function scripted(
  answer: "succeeded" | "failed" | "ignored" | "garbage" | "silence" | "close",
  { isCovered = false, heldUpMs = 0 } = {},
) {
  const path = join(newFolder(), "s");
  const asked: unknown[] = [];
  const door = new SocketDoor({
    path,
    mode: 0o600,
    onMessage: (peer, bytes, [holder, owner]) => {
      const request = readAskRequest(bytes);
      if (request?.what === "cover") {
        door.answer(peer, writeAskReply(request.number, isCovered ? "succeeded" : "ignored"));
        return;
      }
      asked.push({ ...request, holder, owner });
      if (answer === "close") door.drop(peer);
      else if (answer === "garbage") door.answer(peer, Buffer.from("what?"));
      else if (answer !== "silence" && request?.what === "bind")
        door.answer(peer, writeAskReply(request.number, answer));
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, heldUpMs);
    },
  });
  onTestFinished(() => door.close());
  return { path, asked };
}

describe("natbinder run", () => {
  skipAll(cannotRun);
  it("shows the socket that holds the port and the one that will", async () => {
    const { path, asked } = scripted("succeeded");
    const port = freshPort();
    const program = new RunProgram(path, listener(port, "::"));
    await expect.poll(() => program.output, WAIT).toContain("listening");
    expect(asked).toEqual([
      {
        what: "bind",
        number: 1,
        pid: expect.any(Number) as number,
        program: expect.stringMatching(/^(node|MainThread)/) as string,
        holder: expect.objectContaining({ family: 6, address: "::", port, v6only: 0, protocol: 6 }) as object,
        owner: expect.objectContaining({ family: 6, address: "::", port: 0 }) as object,
      },
    ]);
    program.child.stdin?.end();
    expect(await program.ended).toEqual({ status: 0, signal: null });
  });

  it("a natbinder that is held up behind its answer does not keep the program from listening", async () => {
    const { path } = scripted("succeeded", { heldUpMs: 1000 });
    // Without SO_REUSEADDR, which Node has always.
    const listen = `use Socket; socket(S, PF_INET, SOCK_STREAM, 0);
      bind(S, pack_sockaddr_in(${freshPort()}, INADDR_ANY)) or die "bind: $!"; listen(S, 5) or die "listen: $!"`;
    const program = new RunProgram(path, ["perl", "-e", listen]);
    expect([await program.ended, program.output]).toEqual([{ status: 0, signal: null }, ""]);
  });

  it("refused: the program sees that the port is in use", async () => {
    const { path } = scripted("failed");
    const program = new RunProgram(path, listener(freshPort()));
    expect(await program.ended).toEqual({ status: 3, signal: null });
    expect(program.output).toBe("EADDRINUSE\n");
  });

  it.each(["ignored", "garbage", "close"] as const)(
    "an answer that is %s: the program has its port",
    async (answer) => {
      const program = new RunProgram(scripted(answer).path, listener(freshPort()));
      await expect.poll(() => program.output, WAIT).toContain("listening");
    },
  );

  it("silence: the program has its port when its patience is over", async () => {
    const program = new RunProgram(scripted("silence").path, listener(freshPort()), {
      ISTHMUS_NATBINDER_WAIT_MS: "300",
    });
    await expect.poll(() => program.output, WAIT).toContain("listening");
    expect(Number(/after ([\d.]+)/.exec(program.output)![1])).toBeGreaterThan(290);
  });

  it("nobody there: the program has its port", async () => {
    const program = new RunProgram("/nonexistent/socket", listener(freshPort()));
    await expect.poll(() => program.output, WAIT).toContain("listening");
  });

  it("asks nobody about ports of one address, or of the kernel's choice", async () => {
    const { path, asked } = scripted("failed");
    const programs = [
      new RunProgram(path, listener(freshPort(), "127.0.0.1")),
      new RunProgram(path, listener(freshPort(), "::1")),
      new RunProgram(path, listener(0)),
    ];
    for (const program of programs) await expect.poll(() => program.output, WAIT).toContain("listening");
    expect(asked).toEqual([]);
  });

  it("becomes its program where natbinder sees it anyway", async () => {
    const { path, asked } = scripted("failed", { isCovered: true });
    const program = new RunProgram(path, ["sh", "-c", "echo $$; grep Seccomp: /proc/self/status; exit 7"]);
    expect(await program.ended).toEqual({ status: 7, signal: null });
    const ours = /^Seccomp:.*$/m.exec(readFileSync("/proc/self/status", "utf8"))![0];
    expect(program.output).toBe(`${program.child.pid}\n${ours}\n`);
    expect(asked).toEqual([]);
    expect(await new RunProgram(path, ["/nonexistent/program"]).ended).toEqual({ status: 127, signal: null });
  });

  it("is asked once where it runs itself", async () => {
    const { path, asked } = scripted("succeeded");
    const program = new RunProgram(path, [RUN, ...listener(freshPort())]);
    await expect.poll(() => program.output, WAIT).toContain("listening");
    expect(asked).toHaveLength(1);
    expect(program.output).not.toContain("natbinder");
  });

  it.each([
    [["sh", "-c", "exit 7"], { status: 7, signal: null }],
    [["sh", "-c", "kill -TERM $$"], { status: null, signal: "SIGTERM" }],
    [["/nonexistent/program"], { status: 127, signal: null }],
    [["/dev/null"], { status: 126, signal: null }],
  ])("ends as the program ends: %j", async (command, ended) => {
    expect(await new RunProgram("/nonexistent/socket", command).ended).toEqual(ended);
  });

  it("passes signals on, and stops and goes on as the program does", async () => {
    const script = "trap 'echo usr1' USR1; trap 'echo term; exit 5' TERM; echo ready; while :; do sleep 0.05; done";
    const program = new RunProgram("/nonexistent/socket", ["sh", "-c", script]);
    await expect.poll(() => program.output, WAIT).toContain("ready");
    program.child.kill("SIGUSR1");
    await expect.poll(() => program.output, WAIT).toContain("usr1");
    program.child.kill("SIGTERM");
    expect(await program.ended).toEqual({ status: 5, signal: null });
    expect(program.output).toBe("ready\nusr1\nterm\n");
  });

  it("leaves signals and limits to the program as its caller had them, and no descriptors", async () => {
    const script = "ls /proc/self/fd; grep -E 'Sig(Blk|Ign)' /proc/self/status; ulimit -n; ulimit -Hn";
    const program = new RunProgram("/nonexistent/socket", ["sh", "-c", script]);
    await program.ended;
    const asEver = spawnSync("sh", ["-c", script], { stdio: ["pipe", "pipe", "pipe"], encoding: "utf8" });
    expect(program.output).toBe(asEver.stdout);
  });

  it("when it is killed by force takes the program with it", async () => {
    const program = new RunProgram("/nonexistent/socket", ["sh", "-c", "echo $$; exec sleep 1000"]);
    await expect.poll(() => program.output, WAIT).toMatch(/^\d+\n$/);
    program.child.kill("SIGKILL");
    await once(program.child, "exit");
    const isAlive = () => {
      try {
        return process.kill(Number(program.output), 0);
      } catch {
        return false;
      }
    };
    await expect.poll(isAlive, WAIT).toBe(false);
  });

  it("answers for no container where none is handed over, and goes on", async () => {
    const path = join(newFolder(), "containers");
    const agent = new PlainProgram([RUN, "--containers", path]);
    for (const said of ["", "garbage", '{"fds":["seccompFd"]}']) {
      await expect.poll(() => existsSync(path), WAIT).toBe(true);
      const before = agent.output.length;
      connect(path).end(said);
      await expect.poll(() => agent.output.slice(before), WAIT).toBe("natbinder: what came was no container\n");
    }
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(agent.child.exitCode).toBeNull();
  });

  it.each([[[]], [["--unknown", "true"]], [["--containers", "one", "two"]], [["--wait", "soon", "true"]]])(
    "%j is no way to call it",
    (args) => {
      const { status, stderr } = spawnSync(RUN, args, { encoding: "utf8" });
      expect({ status, stderr }).toEqual({
        status: 2,
        stderr: expect.stringContaining("usage: natbinder run") as string,
      });
    },
  );
});
