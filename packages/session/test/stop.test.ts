import { once } from "node:events";
import { expect, it } from "vitest";
import { spawnScript } from "./child/spawn.ts";
import { connect, startServer } from "./harness.ts";
import { startProxy } from "./tcp-proxy.ts";

it("a client that is stopped in any phase leaves no handle, and a process that has no other ends", async () => {
  const { child, lines } = spawnScript("stop-phases.ts");
  const ended = once(child, "exit");
  const seen: string[] = [];
  for (let line = await lines.next(); !line.done; line = await lines.next()) seen.push(line.value);
  expect(seen).toEqual([
    "before-start none",
    "dial none",
    "hello none",
    "login none",
    "declare none",
    "up none",
    "check none",
    "back-off none",
    "waiting none",
  ]);
  expect(await ended).toEqual([0, null]);
});

it("a server that does not answer the goodbye is waited for a short time only", async () => {
  const server = await startServer({ isOwnOrigin: () => true });
  const proxy = await startProxy(server);
  const { client } = await connect({ ...server, origin: proxy.origin });
  proxy.freeze();
  // The library's own limit is 30 s, beyond the limit of this test.
  await client.stop();
  expect(client.state).toBe("down");
});

it("a client that stops says goodbye by name", async () => {
  const server = await startServer();
  const { client, session } = await connect(server);
  await client.stop();
  await expect.poll(() => server.closed).toEqual([{ session, code: "shutting-down" }]);
  await client.stop();
  expect(client.state).toBe("down");
});
