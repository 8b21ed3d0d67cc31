import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { IsthmusError } from "@isthmus/protocol";
import { createIdentity, silentLogger } from "@isthmus/service";
import { BACKOFF_TO_ISB } from "@isthmus/session";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { kill, spawnScript } from "./child/spawn.ts";
import { connect, failure, startClient, startServer } from "./harness.ts";
import { startProxy } from "./tcp-proxy.ts";

const FAST = { firstMs: 1, mostMs: 1, longAfterMs: 1e9, longMs: 1e9 };

/** A port of this host at which nobody listens. */
async function deadPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

describe("a lost session", () => {
  it("comes back, declares again, and says so each time", async () => {
    const server = await startServer({ isOwnOrigin: () => true });
    const proxy = await startProxy(server);
    const story: string[] = [];
    const { client, session } = await connect(
      { ...server, origin: proxy.origin },
      {
        backoff: FAST,
        onLogin: () => void story.push("declare"),
        onUp: () => void story.push("up"),
        onDown: ({ code }) => void story.push(`down: ${code}`),
      },
    );
    proxy.cut();
    await expect.poll(() => story).toEqual(["declare", "up", "down: closed", "declare", "up"]);
    expect(server.server.get(session.key)).not.toBe(session);
    expect(client.lastError).toBeUndefined();
  });

  it("that the server closed by name is reported by that name", async () => {
    const server = await startServer();
    const downs: string[] = [];
    const { session } = await connect(server, { onDown: ({ code }) => void downs.push(code) });
    session.close("device-revoked");
    await expect.poll(() => downs).toEqual(["device-revoked"]);
    expect(server.closed).toEqual([{ session, code: "device-revoked" }]);
  });

  it("while it declares is given up at once, and tried again", async () => {
    const server = await startServer({ isOwnOrigin: () => true });
    const proxy = await startProxy(server);
    let logins = 0;
    const client = startClient(
      { origin: proxy.origin, identity: server.identity },
      {
        backoff: FAST,
        onLogin: () => {
          if (++logins > 1) return undefined;
          proxy.cut();
          return new Promise(() => undefined);
        },
      },
    );
    await client.whenUp(AbortSignal.timeout(10_000));
    expect(logins).toBe(2);
  });

  it("whose declaration is refused is closed and tried again", async () => {
    const server = await startServer();
    let logins = 0;
    const ups: number[] = [];
    const { client } = await connect(server, {
      backoff: FAST,
      onUp: () => void ups.push(logins),
      onLogin: () => {
        if (++logins < 3) throw new IsthmusError("store-unavailable");
      },
    });
    expect(client.state).toBe("up");
    expect(ups).toEqual([3]);
    await expect.poll(() => server.server.size).toBe(1);
  });

  it("is back within 5 s of the server's return after kill -9, and knows it for the same", async () => {
    const folder = mkdtempSync(join(tmpdir(), "session-"));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const keyFile = join(folder, "key.pem");
    const identity = createIdentity();
    writeFileSync(keyFile, identity.toPem());
    const first = spawnScript("server.ts", [keyFile, "0"]);
    const { value: port } = (await first.lines.next()) as { value: string };
    const downs: string[] = [];
    const client = startClient(
      { origin: `ws://127.0.0.1:${port}`, identity },
      { backoff: BACKOFF_TO_ISB, onDown: ({ code }) => void downs.push(code) },
    );
    await client.whenUp(AbortSignal.timeout(10_000));
    await kill(first.child);
    await vi.waitUntil(() => downs.length === 1);
    const second = spawnScript("server.ts", [keyFile, port]);
    expect((await second.lines.next()).value).toBe(port);
    await client.whenUp(AbortSignal.timeout(5000));
    expect(downs).toEqual(["closed"]);
    expect(client.login?.serverKey).toBe(identity.publicKey);
  });
});

describe("several addresses", () => {
  it("are all tried before a waiting time", async () => {
    const server = await startServer();
    const dead = [`ws://127.0.0.1:${await deadPort()}`, `ws://127.0.0.1:${await deadPort()}`];
    const backoff = { firstMs: 1e9, mostMs: 1e9, longAfterMs: 1e9, longMs: 1e9 };
    const target = { origins: [...dead, server.origin], expect: { key: server.identity.publicKey } };
    const { client } = await connect(server, { backoff, target });
    expect(client.origin).toBe(server.origin);
  });

  it("are tried in turn until one answers, which is kept", async () => {
    const identity = createIdentity();
    const [first, second] = [await startServer({ identity }), await startServer({ identity })];
    const dead = [`ws://127.0.0.1:${await deadPort()}`, `ws://127.0.0.1:${await deadPort()}`];
    const origins = [...dead, first.origin, second.origin];
    const { client, session } = await connect(first, {
      backoff: FAST,
      target: { origins, expect: { key: identity.publicKey } },
    });
    expect(client.origin).toBe(first.origin);
    session.close("replaced");
    await expect.poll(() => first.attempts.length + second.attempts.length).toBe(2);
    await client.whenUp(AbortSignal.timeout(10_000));
    expect(client.origin).toBe(first.origin);
  });

  it("that cannot be reached do not hide what another one said for good", async () => {
    const impostor = await startServer();
    const dead = `ws://127.0.0.1:${await deadPort()}`;
    const backoff = { firstMs: 1e9, mostMs: 1e9, longAfterMs: 1e9, longMs: 1e9 };
    const expected = { key: createIdentity().publicKey };
    for (const origins of [
      [impostor.origin, dead],
      [dead, impostor.origin],
    ]) {
      const said: string[] = [];
      const logger = silentLogger();
      // The waiting time is announced when all of them were tried.
      logger.info = ((fields: { waitMs?: number }) => fields.waitMs !== undefined && said.push("tried")) as never;
      const client = startClient(impostor, { backoff, logger, target: { origins, expect: expected } });
      await expect.poll(() => said).toEqual(["tried"]);
      expect(client.lastError?.code).toBe("wrong-server-key");
    }
  });

  it("are all tried soon, even where one refuses for good", async () => {
    const impostor = await startServer();
    const server = await startServer();
    // Attempts after a refusal for good would come after 1e9 ms.
    const { client } = await connect(server, {
      backoff: FAST,
      target: { origins: [impostor.origin, server.origin], expect: { key: server.identity.publicKey } },
    });
    expect(client.origin).toBe(server.origin);
  });

  it("that all refuse for good are left alone for long", async () => {
    const servers = [await startServer(), await startServer()];
    const origins = servers.map(({ origin }) => origin);
    const client = startClient(servers[0]!, { backoff: FAST, target: { origins, expect: { key: "A".repeat(43) } } });
    await expect.poll(() => client.origin).toBe(origins[1]);
    expect(await failure(client)).toMatchObject({ code: "wrong-server-key" });
    client.retryNow();
    await expect.poll(() => client.origin).toBe(origins[0]);
  });
});

it("retryNow ends the waiting time", async () => {
  const server = await startServer({ isOwnOrigin: () => true });
  const proxy = await startProxy(server);
  const backoff = { firstMs: 1e9, mostMs: 1e9, longAfterMs: 1e9, longMs: 1e9 };
  const { client } = await connect({ ...server, origin: proxy.origin }, { backoff });
  proxy.cut();
  expect(await failure(client)).toMatchObject({ code: "closed" });
  client.retryNow();
  await client.whenUp(AbortSignal.timeout(10_000));
});

it("a waiting time that the server asks for is kept, up to the client's own longest", async () => {
  let attempts = 0;
  const server = await startServer({
    server: {
      authorize: () => {
        attempts++;
        throw new IsthmusError("rate-limited", undefined, { retryAfterMs: 10 ** 12 });
      },
    },
  });
  const patient = startClient(server, { backoff: { ...FAST, longMs: 60_000 } });
  expect(await failure(patient)).toMatchObject({ retryAfterMs: 86_400_000 });
  const hasty = startClient(server, { backoff: { ...FAST, longMs: 5 } });
  await failure(hasty);
  await expect.poll(() => attempts).toBeGreaterThan(5);
  expect(server.attempts.filter(({ key }) => key === server.attempts[0]!.key)).toHaveLength(1);
});

it("whenUp ends with its signal's reason", async () => {
  const client = startClient({ origin: `ws://127.0.0.1:${await deadPort()}`, identity: createIdentity() });
  const abort = new AbortController();
  const waiting = client.whenUp(abort.signal);
  abort.abort(new Error("enough"));
  await expect(waiting).rejects.toThrow("enough");
  await expect(client.whenUp(abort.signal)).rejects.toThrow("enough");
});
