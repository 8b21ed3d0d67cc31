import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, expect, test } from "vitest";

const SOURCES = join(import.meta.dirname, "../src");
const ENTER = join(SOURCES, "enter.ts");

const started: ChildProcess[] = [];

afterEach(() => {
  for (const child of started.splice(0)) child.kill("SIGKILL");
});

/** A world that runs a shell script; `lines` is what the script writes. */
function enter(script: string, env: NodeJS.ProcessEnv = {}) {
  return start(process.execPath, [ENTER, "sh", "-c", script], env);
}

function start(command: string, args: string[], env: NodeJS.ProcessEnv = {}, stdin: "ignore" | "pipe" = "ignore") {
  const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: [stdin, "pipe", "ignore"] });
  started.push(child);
  const lines = createInterface(child.stdout!)[Symbol.asyncIterator]();
  const exited = once(child, "exit") as Promise<[number | null, NodeJS.Signals | null]>;
  const nextLine = async () => (await lines.next()).value as string;
  return { child, nextLine, exited };
}

/** Processes of this and inner worlds that carry a mark in their environment. */
function marked(mark: string): string[] {
  return readdirSync("/proc").filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/environ`, "utf8").includes(mark);
    } catch {
      return false;
    }
  });
}

const linksHere = () => spawnSync("ip", ["-br", "link"], { encoding: "utf8" }).stdout;

/** Makes namespaces, links and processes, and says when they are there. */
const BUSY_SCRIPT = `
ip netns add a && ip netns add b && ip link add x netns a type veth peer name y netns b
ip link add here type veth peer name there
ip netns exec a sleep 60 & setsid sleep 60 &
echo busy
wait
`;

test("the command's status is the world's", async () => {
  expect(await enter("exit 7").exited).toEqual([7, null]);
  expect(await enter("kill -9 $$").exited).toEqual([137, null]);
});

test("a checkout in a folder of root's alone is within reach of ordinary users, and the folder's other files are not", async () => {
  const closed = mkdtempSync(join(tmpdir(), "isthmus-lab-test-"));
  try {
    const sources = join(closed, "checkout/test/lab/src");
    cpSync(SOURCES, sources, { recursive: true });
    writeFileSync(join(closed, "secret"), "");
    const script = `setpriv --reuid 65534 --regid 65534 --clear-groups ls "${closed}" "${sources}/enter.ts"`;
    const { nextLine, exited } = start(process.execPath, [join(sources, "enter.ts"), "sh", "-c", script]);
    expect([await nextLine(), await nextLine(), await nextLine(), await nextLine()]).toEqual([
      `${sources}/enter.ts`,
      "",
      `${closed}:`,
      "checkout",
    ]);
    expect(await exited).toEqual([0, null]);
  } finally {
    rmSync(closed, { recursive: true });
  }
});

/** Counts what it is asked by signals, until SIGHUP. */
const SIGNALLED_SCRIPT = `
trap 'echo term' TERM; trap 'echo int' INT; trap 'echo end; exit 5' HUP
echo ready
while :; do sleep 0.01; done
`;

test("a signal reaches the command, once", async () => {
  const { child, nextLine, exited } = enter(SIGNALLED_SCRIPT);
  expect(await nextLine()).toBe("ready");
  for (const [signal, answer] of [
    ["SIGTERM", "term"],
    ["SIGINT", "int"],
    ["SIGHUP", "end"],
  ] as const) {
    child.kill(signal);
    expect(await nextLine()).toBe(answer);
  }
  expect(await exited).toEqual([5, null]);
});

test("Ctrl-C on a terminal reaches the command, once, which goes on reading the terminal", async () => {
  const command = `exec '${process.execPath}' '${ENTER}' sh -c "$SCRIPT"`;
  const script = "trap 'echo asked' INT; echo ready; while :; do read -r line && echo got $line && exit 5; done";
  // `script` gives its command a terminal, and types what it reads.
  const { child, nextLine, exited } = start("script", ["-qec", command, "/dev/null"], { SCRIPT: script }, "pipe");
  expect(await nextLine()).toMatch(/ready/);
  child.stdin?.write("\u0003");
  expect(await nextLine()).toMatch(/asked/);
  child.stdin?.write("typed\n");
  expect(await nextLine()).toBe("typed");
  expect(await nextLine()).toBe("got typed");
  expect(await exited).toEqual([5, null]);
});

test("a world has no network but its own loopback", async () => {
  const { nextLine, exited } = enter(
    "ip -o link | wc -l; ip route get 1.1.1.1 2>&1; ip -6 route get 2606:4700::1111 2>&1; ls /run/netns | wc -l; echo $ISTHMUS_LAB",
  );
  expect(await nextLine()).toBe("1");
  expect(await nextLine()).toMatch(/unreachable/);
  expect(await nextLine()).toMatch(/unreachable/);
  expect(await nextLine()).toBe("0");
  expect(await nextLine()).toBe("1");
  await exited;
});

test("all is gone when the entering process is killed", async () => {
  const mark = randomUUID();
  const [links, names] = [linksHere(), readdirSync("/run/netns")];
  const { child, nextLine, exited } = enter(BUSY_SCRIPT, { MARK: mark });
  expect(await nextLine()).toBe("busy");
  expect(marked(mark).length).toBeGreaterThan(4);
  expect([linksHere(), readdirSync("/run/netns")]).toEqual([links, names]);

  child.kill("SIGKILL");
  await exited;
  await expect.poll(() => marked(mark), { interval: 5, timeout: 5000 }).toEqual([]);
  expect([linksHere(), readdirSync("/run/netns")]).toEqual([links, names]);
});

test("all is gone when the parent of the entering process is killed", async () => {
  const mark = randomUUID();
  const script = `"$0" "$1" sh -c "$2" & wait`;
  const { child, nextLine } = start("sh", ["-c", script, process.execPath, ENTER, BUSY_SCRIPT], { MARK: mark });
  expect(await nextLine()).toBe("busy");

  child.kill("SIGKILL");
  await expect.poll(() => marked(mark), { interval: 5, timeout: 5000 }).toEqual([]);
});

test("two worlds use the same names and do not meet", async () => {
  const script = `ip netns add isb && ip -n isb link add $MINE type veth peer name other && echo made && ip -n isb -br link && echo end`;
  const [one, two] = [enter(script, { MINE: "one" }), enter(script, { MINE: "two" })];
  for (const [world, own, foreign] of [
    [one, "one", "two"],
    [two, "two", "one"],
  ] as const) {
    expect(await world.nextLine()).toBe("made");
    let seen = "";
    for (let line = await world.nextLine(); line !== "end"; line = await world.nextLine()) seen += line;
    expect(seen).toContain(own);
    expect(seen).not.toContain(foreign);
  }
});

test("an ordinary user is told what is missing", () => {
  const args = ["--reuid=65534", "--clear-groups", process.execPath, ENTER, "true"];
  const { status, stderr } = spawnSync("setpriv", args, { encoding: "utf8" });
  expect(status).toBe(1);
  expect(stderr).toMatch(/need root/);
});

test("missing tools are named with their packages", () => {
  const folder = mkdtempSync(join(tmpdir(), "no-tools-"));
  try {
    const { status, stderr } = spawnSync(process.execPath, [ENTER, "true"], {
      env: { PATH: folder },
      encoding: "utf8",
    });
    expect(status).toBe(1);
    expect(stderr).toMatch(/missing: .*tcpdump.*apt-get install .*util-linux/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("no lab is made outside a world", () => {
  const script = `import { Lab } from "${join(SOURCES, "index.ts")}"; await Lab.create();`;
  const args = ["--input-type=module", "-e", script];
  const { status, stderr } = spawnSync(process.execPath, args, {
    env: { ...process.env, ISTHMUS_LAB: "" },
    encoding: "utf8",
  });
  expect(status).toBe(1);
  expect(stderr).toMatch(/LabError: .*enter\.ts/);
});
