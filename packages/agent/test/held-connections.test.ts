import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { afterEach, expect, onTestFinished, test, vi } from "vitest";
import { HeldConnections } from "../src/held-connections.ts";
import { client, endOf } from "./support/programs.ts";
import { turnsUntil } from "./support/turns.ts";

const held = new HeldConnections();
afterEach(() => {
  vi.useRealTimers();
  held.reset();
});

/** A port whose connections are held. */
async function door(): Promise<{ address: string; accepted: Socket[] }> {
  const accepted: Socket[] = [];
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    accepted.push(socket);
    held.hold(socket, "tcp");
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    for (const socket of accepted) socket.destroy();
    server.close();
  });
  return { address: `127.0.0.1:${(server.address() as { port: number }).port}`, accepted };
}

test("a held connection is handed on with all that was said meanwhile", async () => {
  const { address, accepted } = await door();
  const program = client(address);
  program.write("early");
  await vi.waitFor(() => expect(accepted).toHaveLength(1));
  const taken: [Socket, string][] = [];
  held.release((socket, channel) => taken.push([socket, channel]));
  expect(taken).toEqual([[accepted[0], "tcp"]]);
  const [said] = (await once(accepted[0]!, "data")) as [Buffer];
  expect(said.toString()).toBe("early");
  held.release(() => expect.unreachable("it was handed on before"));
});

test("a held connection is reset when its time is over", async () => {
  const { address, accepted } = await door();
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  const end = endOf(client(address));
  await once(
    connect({ host: "127.0.0.1", port: Number(address.split(":")[1]) }).on("error", () => undefined),
    "connect",
  );
  await turnsUntil(() => accepted.length === 2);
  vi.advanceTimersByTime(9999);
  expect(accepted.map(({ destroyed }) => destroyed)).toEqual([false, false]);
  vi.advanceTimersByTime(1);
  expect(await end).toBe("reset");
  expect(vi.getTimerCount()).toBe(0);
});

test("a held connection that its program resets is forgotten", async () => {
  const { address, accepted } = await door();
  const program = client(address);
  await vi.waitFor(() => expect(accepted).toHaveLength(1));
  const closed = new Promise((resolve) => accepted[0]!.once("close", resolve));
  program.resetAndDestroy();
  await closed;
  held.release(() => expect.unreachable("it is gone"));
});

test("there is room for some connections; further ones are reset at once", async () => {
  const { address, accepted } = await door();
  const programs = Array.from({ length: 256 }, () => client(address));
  await vi.waitFor(() => expect(accepted).toHaveLength(256));
  expect(await endOf(client(address))).toBe("reset");
  const ends = Promise.all(programs.map(endOf));
  held.reset();
  expect(new Set(await ends)).toEqual(new Set(["reset"]));
});
