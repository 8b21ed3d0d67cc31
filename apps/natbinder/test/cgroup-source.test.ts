import { type BindRequest, type HeldPort, policySchema } from "@isthmus/binding";
import { silentLogger } from "@isthmus/service";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import type { BindListener } from "../src/bind-source.ts";
import { CgroupSource } from "../src/cgroup-source.ts";
import { cannotWatch, freshPort, listener, newGroup, PlainProgram, skipAll } from "./natbinder-at.ts";

vi.setConfig({ testTimeout: 60_000 });
const WAIT = { timeout: 30_000, interval: 10 };

interface Seen {
  what: "opened" | "refused" | "closed" | "ended";
  port?: number;
  bind?: BindRequest;
}

async function start(policy: Parameters<typeof policySchema.parse>[0] = {}) {
  const group = newGroup();
  const seen: Seen[] = [];
  const ports = new Map<string, number>();
  const target: BindListener = {
    opened: async (bind) => {
      ports.set(bind.socket, bind.port);
      seen.push({ what: "opened", port: bind.port, bind });
      return { answer: "succeeded" };
    },
    closed: (_namespace, socket) => seen.push({ what: "closed", port: ports.get(socket)! }),
    refused: (bind) => seen.push({ what: "refused", port: bind.port, bind }),
    ended: () => seen.push({ what: "ended" }),
  };
  const source = new CgroupSource({ group: group.name, policy: policySchema.parse(policy), logger: silentLogger() });
  onTestFinished(() => source.stop());
  /** A program in the group that listens, as its caller says. */
  const run = (port: number, host?: string) => new PlainProgram(group.command(listener(port, host)));
  return { source, seen, run, start: () => source.start(target) };
}

function others(...ports: number[]): { hasGateway: boolean; held: HeldPort[] } {
  return { hasGateway: true, held: ports.map((port) => ({ protocol: "tcp", port, holder: "192.168.1.9" })) };
}

describe("a control group that is watched by BPF", () => {
  skipAll(cannotWatch);

  it("tells of ports that are taken and closed in it, also of those from before, and of none elsewhere", async () => {
    const watch = await start();
    const [before, after, elsewhere] = [freshPort(), freshPort(), freshPort()];
    const old = watch.run(before, "::");
    await expect.poll(() => old.output, WAIT).toContain("listening");
    const outside = new PlainProgram(listener(elsewhere));
    await expect.poll(() => outside.output, WAIT).toContain("listening");
    await watch.start();
    const fresh = watch.run(after);
    await expect.poll(() => fresh.output, WAIT).toContain("listening");
    await expect.poll(() => watch.seen.filter(({ what }) => what === "opened"), WAIT).toHaveLength(2);
    expect(watch.source.covers(fresh.child.pid!)).toBe(true);
    expect(watch.source.covers(outside.child.pid!)).toBe(false);
    for (const { child } of [old, fresh]) child.kill("SIGKILL");
    await expect.poll(() => watch.seen.filter(({ what }) => what === "closed"), WAIT).toHaveLength(2);
    expect(watch.seen.map(({ what, port }) => `${what} ${port}`).sort()).toEqual(
      [`closed ${after}`, `closed ${before}`, `opened ${after}`, `opened ${before}`].sort(),
    );
    expect(watch.seen.find(({ port }) => port === after)?.bind).toMatchObject({
      family: "ipv4",
      protocol: "tcp",
      pid: fresh.child.pid,
      uid: process.getuid!(),
      isSettled: true,
    });
  });

  it("refuses ports of other hosts as long as they are theirs and there is a gateway", async () => {
    const { source, seen, run, start: begin } = await start();
    const port = freshPort();
    await begin();
    const tries = async () => {
      const program = run(port);
      await expect.poll(() => program.output, WAIT).toMatch(/listening|EADDRINUSE/);
      program.child.kill("SIGKILL");
      await program.ended;
      return program.output.startsWith("listening") ? "listening" : "refused";
    };
    source.tell(others(port));
    await expect.poll(tries, WAIT).toBe("refused");
    await expect.poll(() => seen.at(-1), WAIT).toMatchObject({ what: "refused", port });
    source.tell({ ...others(port), hasGateway: false });
    await expect.poll(tries, WAIT).toBe("listening");
    source.tell(others(port));
    await expect.poll(tries, WAIT).toBe("refused");
    source.tell(others());
    await expect.poll(tries, WAIT).toBe("listening");
  });

  it("refuses nothing that is not to be mapped: ports and programs by the configuration, IPv6 without dual_stack", async () => {
    const [excluded, held] = [freshPort(), freshPort()];
    const watch = await start({
      dualStack: false,
      exclusions: [{ port: excluded }],
      programs: [
        { program: "sh", map: true },
        { program: "*", uid: 4_000_000, map: true },
        { program: "*", map: false },
      ],
    });
    await watch.start();
    watch.source.tell(others(excluded, held));
    for (const [port, host] of [[excluded], [held], [held + 1, "::"]] as const) {
      const program = watch.run(port, host);
      await expect.poll(() => program.output, WAIT).toContain("listening");
      program.child.kill("SIGKILL");
      await program.ended;
    }
    // Of programs the daemon's policy has the last word, of which this source says no more than the kernel's.
    await expect.poll(() => watch.seen.filter(({ what }) => what === "closed"), WAIT).toHaveLength(2);
    expect(watch.seen.filter(({ what }) => what === "refused")).toEqual([]);
    expect(watch.seen.map(({ port }) => port)).not.toContain(held + 1);
  });

  it.each([[[{ program: "rtorrent", map: true }]], [Array.from({ length: 64 }, () => ({ program: "x", map: false }))]])(
    "takes rules that can be looked at in the kernel (%#)",
    async (programs) => {
      const watch = await start({ programs });
      await watch.start();
      expect(watch.seen).toEqual([]);
    },
  );

  it("cannot be where there is no such group, or where there are too many rules", async () => {
    const nowhere = new CgroupSource({ group: "no/such", policy: policySchema.parse({}), logger: silentLogger() });
    const target = { opened: vi.fn(), closed: vi.fn(), ended: vi.fn() };
    await expect(nowhere.start(target)).rejects.toThrow(/no\/such: No such file or directory/);
    const programs = Array.from({ length: 65 }, () => ({ program: "x", map: false }));
    const crowded = new CgroupSource({ group: "", policy: policySchema.parse({ programs }), logger: silentLogger() });
    await expect(crowded.start(target)).rejects.toThrow(/rules: Argument list too long/);
    expect(target.ended).not.toHaveBeenCalled();
  });
});
