import type { Binding } from "@isthmus/binding";
import { silentLogger } from "@isthmus/service";
import { expect, it, onTestFinished } from "vitest";
import { Sweep } from "../src/sweep.ts";

it("missed ends: what is not open any more is closed, once for all that were missed, and not what came later", async () => {
  const seconds = Date.now() / 1000;
  const owner = (socket: string, since: number) => ({ socket, since, pid: 1, uid: 1, program: "" });
  const entries = [
    { namespace: "", protocol: "tcp", port: 2000, owners: [owner("gone", seconds - 5), owner("open", seconds - 5)] },
    { namespace: "x", protocol: "udp", port: 2000, owners: [owner("also gone", seconds - 1)] },
    { namespace: "", protocol: "tcp", port: 2001, owners: [owner("not bound yet", seconds + 1)] },
  ];
  const closed: string[] = [];
  let looks = 0;
  const binding = { entries, close: (namespace: string, socket: string) => closed.push(`${namespace} ${socket}`) };
  const sweep = new Sweep({
    binding: binding as unknown as Binding,
    whatIsOpen: async () => {
      looks++;
      return (_key, { socket }) => socket === "open";
    },
    waitMs: 0,
    logger: silentLogger(),
  });
  onTestFinished(() => sweep.stop());
  for (let time = 0; time < 100; time++) sweep.missed();
  await expect.poll(() => closed, { timeout: 10_000 }).toEqual([" gone", "x also gone"]);
  expect(looks).toBeLessThan(3);
});
