import { once } from "node:events";
import { expect, it } from "vitest";
import { spawnScript } from "./child/spawn.ts";

/** Starts the script, waits for `ready` where it says so, and collects what it says. */
async function start(manner: string) {
  const child = spawnScript("lifecycle.ts", [manner]);
  let said = "";
  child.stdout!.setEncoding("utf8").on("data", (text: string) => {
    said += text;
  });
  const exited = once(child, "exit") as Promise<[number | null, string | null]>;
  const until = async (words: string): Promise<void> => {
    while (!said.includes(words)) await once(child.stdout!, "data");
  };
  if (manner !== "throws") await until("ready");
  return { child, exited, until, said: () => said };
}

it.each(["SIGTERM", "SIGINT"] as const)("%s stops once and ends with status 0", async (signal) => {
  const { child, exited, said } = await start("well");
  child.kill(signal);
  expect(await exited).toEqual([0, null]);
  expect(said().match(/stop called/g)).toHaveLength(1);
});

it("a second signal ends a stop that hangs, at once", async () => {
  const { child, exited, until } = await start("stuck");
  child.kill("SIGTERM");
  await until("stop called");
  child.kill("SIGINT");
  expect(await exited).toEqual([130, null]);
});

it("a stop that fails is logged and ends with status 1", async () => {
  const { child, exited, said } = await start("fails");
  child.kill("SIGTERM");
  expect(await exited).toEqual([1, null]);
  expect(said()).toContain("cannot stop");
});

it("an unexpected error is logged and ends with status 1, after the same stop", async () => {
  const { exited, said } = await start("throws");
  expect(await exited).toEqual([1, null]);
  expect(said()).toMatch(/"message":"unexpected"[\s\S]*stop called/);
});
