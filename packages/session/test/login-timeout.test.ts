import { eventFrame, SUPPORTED_VERSIONS } from "@isthmus/protocol";
import { createIdentity } from "@isthmus/service";
import { expect, it } from "vitest";
import { failure, startClient, startServer } from "./harness.ts";
import { RawClient } from "./raw-client.ts";
import { startRawServer } from "./raw-server.ts";

// The limits are 10 s and cannot be shortened, so all of it happens at the same time.
it("a login that is not completed in time ends by name, whoever keeps the other waiting", async () => {
  const server = await startServer();
  const silentClient = new RawClient(server.origin);
  await silentClient.hello();

  const says = (first?: string): Promise<{ origin: string }> =>
    startRawServer((socket) => {
      if (first !== undefined) socket.send(first);
    });
  const identity = createIdentity();
  const hello = { versions: SUPPORTED_VERSIONS, role: "isb", key: identity.publicKey, nonce: "A".repeat(43) };
  const withoutHello = startClient({ ...(await says()), identity });
  const withoutAnswer = startClient({ ...(await says(eventFrame("hello", hello))), identity });

  expect(await silentClient.closed).toBe("login-timeout");
  expect(server.refused).toEqual(["login-timeout"]);
  expect(await failure(withoutHello)).toMatchObject({ code: "login-timeout" });
  expect(await failure(withoutAnswer)).toMatchObject({ code: "login-timeout" });
});
