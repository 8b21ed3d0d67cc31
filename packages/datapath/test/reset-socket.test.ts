import { once } from "node:events";
import { expect, it } from "vitest";
import { resetSocket } from "../src/index.ts";
import { SpliceBench } from "./spliced-legs.ts";

it.each([
  ["at once", () => undefined],
  ["one turn later", () => new Promise(setImmediate)],
])("closes a socket whose FIN is being sent (%s)", async (_, wait) => {
  const bench = await SpliceBench.start();
  const { end, waiting } = await bench.leg();
  const { socket } = waiting.take();
  const errors: Error[] = [];
  socket.on("error", (error) => errors.push(error));
  const closed = once(socket, "close");
  socket.end();
  await wait();
  resetSocket(socket);
  await closed;
  expect(errors).toEqual([]);
  expect(["end", "reset"]).toContain(await end.whenEnded());
});

it("resets a socket that has unsent bytes and a FIN behind them", async () => {
  const bench = await SpliceBench.start();
  const { end, waiting } = await bench.leg();
  end.socket.pause();
  const { socket } = waiting.take();
  socket.on("error", () => undefined);
  socket.write(Buffer.alloc(40_000_000));
  socket.end();
  const closed = once(socket, "close");
  resetSocket(socket);
  await closed;
  end.socket.resume();
  expect(await end.whenEnded()).toBe("reset");
  expect(end.length).toBeLessThan(40_000_000);
});

it("leaves a socket alone that is gone", async () => {
  const bench = await SpliceBench.start();
  const { waiting } = await bench.leg();
  const { socket } = waiting.take();
  socket.destroy();
  resetSocket(socket);
});
