import { expect, it } from "vitest";
import { AnswerMemory } from "../src/answer-memory.ts";

/** A memory with a clock that a test sets, and the number of times that anything was carried out. */
function start() {
  const memory = new AnswerMemory();
  const state = { now: 0, runs: 0 };
  const ask = (id: string, run: () => unknown = () => "answer"): unknown =>
    memory.answer(
      "alice",
      id,
      () => state.now,
      () => {
        state.runs++;
        return run();
      },
    );
  return { memory, state, ask };
}

it("an answer is given again for 60 s, then the request is a new one", () => {
  const { state, ask } = start();
  ask("a");
  state.now = 59_999;
  expect(ask("a")).toBe("answer");
  expect(state.runs).toBe(1);
  state.now = 60_000;
  ask("a");
  expect(state.runs).toBe(2);
});

it("a request that runs for long is not forgotten meanwhile; its answer is kept from when it is there", async () => {
  const { memory, state, ask } = start();
  const work = Promise.withResolvers<string>();
  const first = ask("a", () => work.promise);
  state.now = 600_000;
  memory.sweep(state.now);
  expect(ask("a")).toBe(first);
  work.resolve("late");
  await first;
  state.now = 659_999;
  memory.sweep(state.now);
  expect(await ask("a")).toBe("late");
  expect(state.runs).toBe(1);
  state.now = 660_000;
  memory.sweep(state.now);
  expect(memory.size).toBe(0);
});

it.each([
  [
    "at once",
    () => {
      throw new Error("no");
    },
  ],
  ["later", () => Promise.reject(new Error("no"))],
])("a failure %s is an answer too, and none that nobody handles", async (_, run) => {
  const { state, ask } = start();
  await expect(ask("a", run)).rejects.toThrow("no");
  await expect(ask("a", run)).rejects.toThrow("no");
  expect(state.runs).toBe(1);
});

it("sweeping forgets what is old, and only that", () => {
  const { memory, state, ask } = start();
  for (let i = 0; i < 100; i++) {
    state.now = i * 1000;
    ask(`id ${i}`);
  }
  memory.sweep(100_000);
  expect(memory.size).toBe(59);
});

it("the number of answers is bounded", () => {
  const { memory, ask } = start();
  for (let i = 0; i < 200_010; i++) ask(`id ${i}`);
  expect(memory.size).toBe(200_000);
});
