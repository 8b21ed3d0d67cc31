import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { IdealState, idealStateSchema, StateFile } from "@isthmus/binding";
import { silentLogger } from "@isthmus/service";
import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import { newFolder } from "./binding-at.ts";

const owner = (socket: string, uid = 1000) => ({ socket, pid: 1, uid, program: "p", since: 0 });
const key = (port: number, protocol: "tcp" | "udp" = "tcp") => ({ namespace: "", protocol, port });

it("counts every socket once, wherever it was seen, and comes back from disk as it was", () => {
  const step = fc.record({ isAdd: fc.boolean(), socket: fc.nat(5), port: fc.integer({ min: 1024, max: 1027 }) });
  fc.assert(
    fc.property(fc.array(step), (steps) => {
      const state = new IdealState();
      const expected = new Map<string, number>();
      for (const { isAdd, socket, port } of steps) {
        if (isAdd) {
          state.add(key(port), owner(String(socket)));
          expected.set(String(socket), port);
        } else {
          expect(state.remove("", String(socket))?.port).toBe(expected.get(String(socket)));
          expected.delete(String(socket));
        }
      }
      const stored = idealStateSchema.parse(JSON.parse(JSON.stringify(state.toStored())));
      for (const one of [state, new IdealState(stored)]) {
        const seen = one.ports.flatMap(({ key: { port }, owners }) => owners.map(({ socket }) => [socket, port]));
        expect(seen.sort()).toEqual([...expected].sort());
        expect(one.tag).toBe(state.tag);
        expect(one.nonceKey).toEqual(state.nonceKey);
        expect(one.count(1000)).toBe(expected.size);
        expect(one.count(1001)).toBe(0);
      }
    }),
  );
});

it("a port that nobody holds stays until its mapping is certainly gone; one that is held cannot be forgotten", () => {
  const state = new IdealState();
  state.add(key(2000), owner("a"));
  state.forget(key(2000));
  state.remove("", "a");
  expect(state.ports).toEqual([{ key: key(2000), owners: [] }]);
  expect(new IdealState(state.toStored()).ports).toHaveLength(1);
  state.forget(key(2000));
  expect(state.ports).toEqual([]);
});

it("sockets of two namespaces are two though their cookies are equal", () => {
  const state = new IdealState();
  state.add({ ...key(2000), namespace: "a" }, owner("1"));
  state.add({ ...key(2000), namespace: "b" }, owner("1"));
  state.remove("a", "1");
  expect(state.owners({ ...key(2000), namespace: "b" })).toHaveLength(1);
});

describe("the file", () => {
  it("holds the newest state after a moment, and at once when it has to", async () => {
    const folder = newFolder();
    const file = new StateFile(folder, silentLogger());
    const state = new IdealState();
    expect(file.read()).toBeUndefined();
    file.save(state);
    state.add(key(2000), owner("a"));
    file.save(state);
    expect(file.read()).toBeUndefined();
    await expect.poll(() => file.read(), { timeout: 10_000 }).toEqual(state.toStored());
    state.add(key(2001), owner("b"));
    file.save(state);
    await file.flush();
    expect(new StateFile(folder, silentLogger()).read()!.ports).toHaveLength(2);
    await file.flush();
  });

  it("that cannot be written is said once, and written when it can", async () => {
    const folder = newFolder();
    const inTheWay = join(folder, `ideal-state.json.${process.pid}.tmp`);
    mkdirSync(inTheWay);
    const logger = { ...silentLogger(), error: vi.fn(), info: vi.fn() };
    const file = new StateFile(folder, logger);
    const state = new IdealState();
    file.save(state);
    for (let turn = 0; turn < 3; turn++) await file.flush();
    expect(file.trouble).toMatch(/EISDIR|directory/);
    expect(logger.error).toHaveBeenCalledOnce();
    rmSync(inTheWay, { recursive: true });
    await file.flush();
    expect(file.trouble).toBeUndefined();
    expect(file.read()).toEqual(state.toStored());
    expect(logger.info).toHaveBeenCalledOnce();
  });

  it.each(["", "{", "null", '{"version":2}', '{"version":1,"tag":"x","nonceKey":"","ports":[]}'])(
    "of '%s' is a start without",
    (text) => {
      const folder = newFolder();
      writeFileSync(join(folder, "ideal-state.json"), text);
      const logger = { ...silentLogger(), error: vi.fn() };
      expect(new StateFile(folder, logger).read()).toBeUndefined();
      expect(logger.error).toHaveBeenCalledOnce();
    },
  );

  it("in a folder that cannot be made leaves everything in memory", async () => {
    const folder = newFolder();
    writeFileSync(join(folder, "file"), "");
    const file = new StateFile(join(folder, "file", "below"), silentLogger());
    expect(file.trouble).toMatch(/ENOTDIR/);
    expect(file.read()).toBeUndefined();
    file.save(new IdealState());
    await file.flush();
    expect(file.trouble).toBeDefined();
  });
});
