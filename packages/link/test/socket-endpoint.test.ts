import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { afterEach, expect, it } from "vitest";
import { SocketEndpoint } from "../src/leg/socket-endpoint.ts";

const server = createServer({ allowHalfOpen: true });
const ends: Socket[] = [];

afterEach(() => {
  for (const socket of ends.splice(0)) socket.destroy();
  server.close();
});

/** Both ends of a connection, as the daemon has one. */
async function connection(): Promise<{ ours: Socket; theirs: Socket }> {
  server.listen({ host: "127.0.0.1", port: 0 });
  await once(server, "listening");
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
