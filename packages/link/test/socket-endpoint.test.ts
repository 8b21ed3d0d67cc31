import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { thePump } from "@isthmus/native/pump";
import { afterEach, expect, it, vi } from "vitest";
import { listenTo, SocketEndpoint } from "../src/leg/socket-endpoint.ts";

const server = createServer({ allowHalfOpen: true });
const ends: Socket[] = [];

afterEach(() => {
  for (const socket of ends.splice(0)) socket.destroy();
  server.close();
});

/** Both ends of a connection, as the daemon has one. */
async function connection(): Promise<{ ours: Socket; theirs: Socket }> {
  if (!server.listening) await once(server.listen({ host: "127.0.0.1", port: 0 }), "listening");
  const { port } = server.address() as { port: number };
  const ours = connect({ host: "127.0.0.1", port, allowHalfOpen: true });
  const [theirs] = (await once(server, "connection")) as [Socket];
  if (ours.connecting) await once(ours, "connect");
  ends.push(ours, theirs);
  return { ours, theirs };
}

it.each([
  ["at once", () => undefined],
  ["in the next tick", () => Promise.resolve()],
  ["one turn of the loop later", () => new Promise(setImmediate)],
])("resets a connection whose FIN is just being sent (%s)", async (_, wait) => {
  const { ours, theirs } = await connection();
  const errors: Error[] = [];
  ours.on("error", (error) => errors.push(error));
  const closed = new Promise((resolve) => ours.once("close", resolve));
  const endpoint = new SocketEndpoint(ours);

  endpoint.end();
  await wait();
  endpoint.reset();

  await closed;
  expect(errors).toEqual([]);
  // Who has seen the end of the other direction notices by what it sends.
  const failed = new Promise<NodeJS.ErrnoException>((resolve) => theirs.once("error", resolve));
  const writing = setInterval(() => theirs.write("more"), 1);
  theirs.once("close", () => clearInterval(writing));
  expect((await failed).code).toMatch(/^(ECONNRESET|EPIPE)$/);
});

it.runIf(thePump()).each([
  ["paused", false],
  ["about to flow", true],
])("hands over what Node holds of a connection that is %s, once and all of it", async (_, flows) => {
  const [from, to] = [await connection(), await connection()];
  from.theirs.setNoDelay();
  const reported: string[] = [];
  const ended = Promise.withResolvers<string>();
  for (const socket of [from.ours, to.ours]) {
    listenTo(socket, {
      data: (chunk) => reported.push(`data ${chunk}`),
      end: () => reported.push("end"),
      drained: () => undefined,
      lost: () => reported.push("lost"),
    });
  }
  from.ours.pause();
  for (const [index, word] of ["one ", "two ", "three "].entries()) {
    from.theirs.write(word);
    const held = ["one ", "two ", "three "].slice(0, index + 1).join("").length;
    await vi.waitFor(() => expect(from.ours.readableLength).toBe(held), { interval: 1 });
  }
  if (flows) from.ours.resume();

  expect(new SocketEndpoint(from.ours).joinWith(new SocketEndpoint(to.ours), ended.resolve)).toBe(true);

  let heard = "";
  to.theirs.on("data", (chunk: Buffer) => {
    heard += chunk.toString();
  });
  from.theirs.end("four");
  await once(to.theirs, "end");
  expect(heard).toBe("one two three four");
  to.theirs.end();
  from.theirs.resume();
  expect(await ended.promise).toBe("finished");
  expect(reported).toEqual([]);
});
