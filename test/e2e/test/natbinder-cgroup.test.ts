import { join } from "node:path";
import { until } from "@isthmus/e2e";
import { ORDINARY_UID } from "@isthmus/lab";
import { describe, expect, it } from "vitest";
import { natbinderCases } from "./fixtures/natbinder-cases.ts";

describe("with a watch of all programs by eBPF", () => {
  const scene = natbinderCases({ systemWide: "cgroup", waits: false, seesAll: true, findsOld: true });

  it("'natbinder run' starts its program and does nothing else", async () => {
    expect((await scene.mine.status()).systemWide).toEqual({ source: "cgroup" });
    const look = ["grep", "-E", "^(Seccomp|NoNewPrivs):", "/proc/self/status"];
    const alice = scene.lab.node("alice");
    const [[plain = "", ...rest], [wrapped = "", ...more]] = [look, [...scene.mine.runCommand, ...look]];
    const [usual, seen] = [await alice.read(plain, rest), await alice.read(wrapped, more)];
    expect(seen).toBe(usual);
  });

  it("a watch that is killed is back, and has missed nothing", async () => {
    const one = scene.binder();
    const closed = await one.take("tcp4", 12_200);
    await scene.mine.portsAre(["tcp 12200"]);
    await scene.lab.node("alice").script(`kill -9 $(pgrep -P ${(await scene.mine.status()).pid} natbinder-watch)`);
    await scene.mine.program.waitForOutput(/natbinder-watch has ended/, 10_000);
    await one.close(closed);
    await one.take("udp4", 12_201);
    await scene.mine.portsAre(["udp 12201"]);
  });

  it("which is not allowed there is a look at the list of sockets now and then", async () => {
    const carol = scene.lab.node("carol");
    const carols = await scene
      .natbinder(carol, { uid: ORDINARY_UID, state: join(carol.folder, "unprivileged") })
      .start();
    expect((await carols.status()).systemWide).toMatchObject({
      source: "sockets",
      trouble: expect.stringMatching(/^cgroup: .*not permitted/) as string,
    });
    const [file = "", ...args] = [...carols.runCommand, "grep", "^Seccomp:", "/proc/self/status"];
    expect(await carol.read(file, args, { uid: ORDINARY_UID })).toMatch(/2\n$/);
    const one = scene.binder(carols);
    for (const [kind, port] of [
      ["tcp4", 12_210],
      ["tcp6", 12_211],
      ["udp6", 12_212],
    ] as const)
      await one.take(kind, port);
    const v6only = await one.open("tcp6", "v6only");
    await one.bind(v6only, 12_213, "::");
    await one.bind(await one.open("udp4"), 12_214, "127.0.0.1");
    await one.bind(await one.open("udp4"), 0);
    await carols.portsAre(["tcp 12210", "tcp 12211", "udp 12212"]);
    expect((await carols.status()).ports).toMatchObject([{ owners: [{ program: "binder" }] }, {}, {}]);
    one.program.kill("SIGKILL");
    await until("all are gone", async () => (await carols.status()).ports.length === 0 || undefined);
    await carols.stop();
  });
});
