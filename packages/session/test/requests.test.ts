import { IsthmusError, LIMITS, requestFrame } from "@isthmus/protocol";
import { createIdentity } from "@isthmus/service";
import { describe, expect, it } from "vitest";
import { connect, type ServerSession, serverHandlers, startClient, startServer } from "./harness.ts";
import { rawLogin } from "./raw-client.ts";
import { startProxy } from "./tcp-proxy.ts";

/** Handlers of a server whose `work` is what a test makes of it. */
function withWork(work: (session: ServerSession) => Promise<{ done: number }> | { done: number }) {
  return { ...serverHandlers, requests: { ...serverHandlers.requests, work } };
}

describe("a request", () => {
  it("is answered in both directions", async () => {
    const { client, session } = await connect(await startServer());
    expect(await client.request("echo", { text: "grüße \u{1f44b}" })).toEqual({ text: "grüße \u{1f44b}" });
    expect(await session.request("ask", { n: 41 })).toEqual({ n: 42 });
  });

  it("is answered by itself, however the answers overtake each other", async () => {
    const gates = Array.from({ length: 20 }, () => Promise.withResolvers<{ n: number }>());
    const { session } = await connect(await startServer(), {
      handlers: { requests: { ask: (_client, { n }) => gates[n]!.promise } },
    });
    const answers = gates.map((_, n) => session.request("ask", { n }));
    for (const [n, gate] of [...gates.entries()].reverse()) gate.resolve({ n: n * 2 });
    expect(await Promise.all(answers)).toEqual(gates.map((_, n) => ({ n: n * 2 })));
  });

  it.each(["at once", "later"])("that is refused %s keeps code, sentence and waiting time", async (when) => {
    const refusal = new IsthmusError("ist-full", "no room on ist-1", { retryAfterMs: 1500 });
    const server = await startServer({
      server: {
        handlers: withWork(() => {
          if (when === "later") return Promise.reject(refusal);
          throw refusal;
        }),
      },
    });
    const { client } = await connect(server);
    await expect(client.request("work", {})).rejects.toMatchObject({
      code: "ist-full",
      message: "no room on ist-1",
      retryAfterMs: 1500,
    });
    expect(client.state).toBe("up");
  });

  it.each(["at once", "later"])("whose handler breaks %s tells the peer nothing and the log all", async (when) => {
    const fault = new TypeError("cannot read hunter2");
    const seen: unknown[] = [];
    const server = await startServer({
      server: {
        handlers: withWork(() => {
          if (when === "later") return Promise.reject(fault);
          throw fault;
        }),
        hooks: { internalError: (_session, type, error) => seen.push(type, error) },
      },
    });
    const { client } = await connect(server);
    const answer = client.request("work", {});
    await expect(answer).rejects.toMatchObject({ code: "internal", message: expect.not.stringContaining("hunter2") });
    expect(seen).toEqual(["work", fault]);
    expect(await client.request("echo", { text: "still here" })).toEqual({ text: "still here" });
  });

  it("that is not answered ends with timeout, and a late answer disturbs nobody", async () => {
    const work = Promise.withResolvers<{ done: number }>();
    const { client } = await connect(await startServer({ server: { handlers: withWork(() => work.promise) } }));
    await expect(client.request("work", {}, { timeoutMs: 30 })).rejects.toMatchObject({ code: "timeout" });
    work.resolve({ done: 1 });
    expect(await client.request("echo", { text: "next" })).toEqual({ text: "next" });
  });

  it("that waits when the session is lost ends with disconnected, at either end", async () => {
    const never = new Promise<never>(() => undefined);
    const server = await startServer({ isOwnOrigin: () => true, server: { handlers: withWork(() => never) } });
    const proxy = await startProxy(server);
    const { client, session } = await connect(
      { ...server, origin: proxy.origin },
      { handlers: { requests: { ask: () => never } } },
    );
    const fromClient = client.request("work", {});
    const fromServer = session.request("ask", { n: 1 });
    proxy.cut();
    const outcomes = await Promise.allSettled([fromClient, fromServer]);
    expect(outcomes).toMatchObject([{ reason: { code: "disconnected" } }, { reason: { code: "disconnected" } }]);
    await expect(session.request("ask", { n: 2 })).rejects.toMatchObject({ code: "disconnected" });
  });

  it("fails at once while there is no session", async () => {
    const client = startClient({ origin: "ws://127.0.0.1:1", identity: createIdentity() });
    await expect(client.request("echo", { text: "x" })).rejects.toMatchObject({ code: "disconnected" });
    expect(client.binary(Buffer.from("x"))).toBe(false);
  });

  it("that repeats one still open is answered, and the first one's time-out does not end it", async () => {
    const work = Promise.withResolvers<{ done: number }>();
    const server = await startServer({ server: { handlers: withWork(() => work.promise), remember: ["work"] } });
    const { client } = await connect(server);
    const first = client.request("work", {}, { id: "same", timeoutMs: 30 });
    const second = client.request("work", {}, { id: "same" });
    await expect(first).rejects.toMatchObject({ code: "timeout" });
    work.resolve({ done: 7 });
    expect(await second).toEqual({ done: 7 });
  });

  it("that no frame can hold is refused where it is made, and so is such an answer; the session goes on", async () => {
    const faults: unknown[] = [];
    const tooLong = "€".repeat(LIMITS.sessionFrameBytes / 3);
    const server = await startServer({
      server: {
        handlers: {
          ...serverHandlers,
          requests: { ...serverHandlers.requests, echo: (_session, { text }) => ({ text: `${text}${tooLong}` }) },
        },
        hooks: { internalError: (_session, type, error) => faults.push(type, (error as IsthmusError).code) },
      },
    });
    const { client, session } = await connect(server);
    await expect(client.request("echo", { text: tooLong })).rejects.toMatchObject({ code: "too-large" });
    await expect(client.request("echo", { text: "" })).rejects.toMatchObject({
      code: "too-large",
      message: "the answer to echo is larger than a frame may be",
    });
    session.event("tick", { n: 1, pad: tooLong });
    expect(faults).toEqual(["tick", "too-large"]);
    expect(await client.request("work", {})).toEqual({ done: 1 });
    expect(await session.request("ask", { n: 1 })).toEqual({ n: 2 });
  });

  it("of exactly the largest size passes", async () => {
    const { client } = await connect(await startServer());
    const frame = requestFrame("echo", "a".repeat(22), { text: "" });
    const text = "x".repeat(LIMITS.sessionFrameBytes - frame.length);
    expect(await client.request("echo", { text }, { id: "a".repeat(22) })).toEqual({ text });
    await expect(client.request("echo", { text: `${text}x` }, { id: "b".repeat(22) })).rejects.toMatchObject({
      code: "too-large",
    });
  });

  it("above the rate of its session is refused with the time to wait; other sessions go on", async () => {
    const server = await startServer({ server: { requestRate: { perSecond: 0.1, burst: 3 } } });
    const { client } = await connect(server);
    const { client: other } = await connect(server);
    const answers = await Promise.allSettled(Array.from({ length: 5 }, () => client.request("echo", { text: "x" })));
    expect(answers.map(({ status }) => status)).toEqual([
      "fulfilled",
      "fulfilled",
      "fulfilled",
      "rejected",
      "rejected",
    ]);
    const { reason } = answers[3] as PromiseRejectedResult;
    expect(reason).toMatchObject({ code: "rate-limited" });
    expect((reason as IsthmusError).retryAfterMs).toBeGreaterThan(5000);
    expect(await other.request("echo", { text: "y" })).toEqual({ text: "y" });
  });
});

describe("a peer that is newer or broken", () => {
  it("gets unknown-type for a request that nobody knows, bad-message for a wrong one, and keeps its session", async () => {
    const observed: string[] = [];
    const server = await startServer({
      server: { hooks: { observe: (_session, event, type) => observed.push(`${event} ${type}`) } },
    });
    const client = await rawLogin(server.origin);
    client.send({ t: "from-the-future", id: "a" });
    client.send({ t: "echo", id: "b", text: 7 });
    client.send({ t: "future-event" });
    client.send({ t: "echo", id: "c", text: "good", extra: true });
    expect([await client.next(), await client.next(), await client.next()]).toMatchObject([
      { t: "error", re: "a", code: "unknown-type" },
      { t: "error", re: "b", code: "bad-message" },
      { t: "ok", re: "c", text: "good" },
    ]);
    expect(observed).toEqual(["refused unknown-type", "refused echo", "dropped unknown-type", "request echo"]);
  });

  it.each([
    ["no JSON", "{", "bad-message"],
    ["an event of the wrong form", '{"t":"note","n":"x"}', "bad-message"],
    ["a binary frame where none is expected", Buffer.from("x"), "bad-message"],
    ["a frame above the limit", "x".repeat(LIMITS.sessionFrameBytes + 1), 1009],
  ])("is closed by name for %s", async (_, frame, code) => {
    const server = await startServer();
    const client = await rawLogin(server.origin);
    client.send(frame);
    expect(await client.closed).toBe(code);
    await expect.poll(() => server.server.size).toBe(0);
  });

  it("has no effect any more once it is being closed", async () => {
    const notes: number[] = [];
    const server = await startServer({
      server: { handlers: { ...serverHandlers, events: { note: (_session, { n }) => void notes.push(n) } } },
    });
    const client = await rawLogin(server.origin);
    client.send({ t: "note", n: 1 });
    client.send("{");
    client.send({ t: "note", n: 2 });
    client.send({ t: "echo", id: "a", text: "x" });
    expect(await client.closed).toBe("bad-message");
    expect(notes).toEqual([1]);
    expect(await client.next()).toBeUndefined();
  });

  it("sending answers that nobody asked for is ignored", async () => {
    const raw = await rawLogin((await startServer()).origin);
    raw.send({ t: "ok", re: "nothing" });
    raw.send({ t: "error", re: "nothing", code: "internal", message: "x" });
    raw.send({ t: "echo", id: "a", text: "x" });
    expect(await raw.next()).toMatchObject({ t: "ok", re: "a" });
  });
});

describe("events", () => {
  it("arrive in order in both directions, beside binary frames", async () => {
    const atServer: unknown[] = [];
    const atClient: unknown[] = [];
    const server = await startServer({
      server: {
        handlers: {
          ...serverHandlers,
          events: { note: (_session, { n }) => void atServer.push(n) },
          binary: (_session, frame) => void atServer.push(frame.toString()),
        },
      },
    });
    const { client, session } = await connect(server, {
      handlers: {
        events: { tick: (_client, { n }) => void atClient.push(n) },
        binary: (_client, frame) => void atClient.push(frame.toString()),
      },
    });
    client.event("note", { n: 1 });
    expect(client.binary(Buffer.from("two"))).toBe(true);
    client.event("note", { n: 3 });
    session.event("tick", { n: 1 });
    session.binary(Buffer.from("two"));
    expect(session.push("tick", { n: 3 })).toBe(true);
    await client.request("echo", { text: "flush" });
    await session.request("ask", { n: 0 });
    expect(atServer).toEqual([1, "two", 3]);
    expect(atClient).toEqual([1, "two", 3]);
  });

  it("whose handler breaks cost neither the session nor the process", async () => {
    const fault = new TypeError("broken");
    const seen: unknown[] = [];
    const server = await startServer({
      server: {
        handlers: {
          ...serverHandlers,
          events: {
            note: () => {
              throw fault;
            },
          },
          binary: () => {
            throw fault;
          },
        },
        hooks: { internalError: (_session, type, error) => seen.push(type, error) },
      },
    });
    const { client } = await connect(server);
    client.event("note", { n: 1 });
    client.binary(Buffer.from("x"));
    expect(await client.request("echo", { text: "still here" })).toEqual({ text: "still here" });
    expect(seen).toEqual(["note", fault, "binary", fault]);
  });

  it("that come right behind the answer to the login are not lost", async () => {
    const ticks: number[] = [];
    const answers: unknown[] = [];
    const server = await startServer({
      server: {
        onOpen: (session) => {
          for (let n = 0; n < 50; n++) session.event("tick", { n });
          void session.request("ask", { n: 1 }).then((answer) => answers.push(answer));
        },
      },
    });
    const { client } = await connect(server, {
      handlers: { events: { tick: (_client, { n }) => void ticks.push(n) } },
    });
    await client.request("echo", { text: "flush" });
    expect(ticks).toEqual(Array.from({ length: 50 }, (_, n) => n));
    expect(answers).toEqual([{ n: 2 }]);
  });
});

describe("a request that is repeated after a reconnect", () => {
  /** Cuts the session while its request runs, waits for the next one, and repeats the request there. */
  async function repeat(finish: (work: PromiseWithResolvers<{ done: number }>) => void, when: "running" | "finished") {
    const work = Promise.withResolvers<{ done: number }>();
    const started = Promise.withResolvers<void>();
    let runs = 0;
    const server = await startServer({
      isOwnOrigin: () => true,
      server: {
        remember: ["work"],
        handlers: withWork(() => {
          runs++;
          started.resolve();
          return work.promise;
        }),
      },
    });
    const proxy = await startProxy(server);
    const { client, session } = await connect({ ...server, origin: proxy.origin });
    const first = client.request("work", {}, { id: "work-1" });
    await started.promise;
    proxy.cut();
    await expect(first).rejects.toMatchObject({ code: "disconnected" });
    if (when === "finished") finish(work);
    await expect.poll(() => server.server.get(session.key)).not.toBe(session);
    await client.whenUp(AbortSignal.timeout(10_000));
    const second = client.request("work", {}, { id: "work-1" });
    // The answer to a later request shows that the repeat has arrived.
    await client.request("echo", { text: "flush" });
    if (when === "running") finish(work);
    const outcome = await second.catch((error: unknown) => error);
    const other = await client.request("work", {}, { id: "work-2" }).catch((error: unknown) => error);
    return { outcome, other, runs };
  }

  it.each(["running", "finished"] as const)("is not carried out twice while the first is %s", async (when) => {
    const { outcome, runs } = await repeat(({ resolve }) => resolve({ done: 5 }), when);
    expect(outcome).toEqual({ done: 5 });
    expect(runs).toBe(2); // the third request has an id of its own
  });

  it.each(["running", "finished"] as const)("fails as the first, which was %s, failed", async (when) => {
    const { outcome, runs } = await repeat(({ reject, promise }) => {
      promise.catch(() => undefined);
      reject(new IsthmusError("no-ist", "none logged in"));
    }, when);
    expect(outcome).toMatchObject({ code: "no-ist", message: "none logged in" });
    expect(runs).toBe(2);
  });

  it("is carried out again where its answer is not remembered", async () => {
    let runs = 0;
    const server = await startServer({ server: { handlers: withWork(() => ({ done: ++runs })) } });
    const raw = await rawLogin(server.origin);
    raw.send(requestFrame("work", "same", {}));
    raw.send(requestFrame("work", "same", {}));
    expect([await raw.next(), await raw.next()]).toMatchObject([{ done: 1 }, { done: 2 }]);
  });

  it("is another request when another device sends it", async () => {
    let runs = 0;
    const server = await startServer({ server: { remember: ["work"], handlers: withWork(() => ({ done: ++runs })) } });
    for (const done of [1, 2]) {
      const raw = await rawLogin(server.origin);
      raw.send(requestFrame("work", "same", {}));
      expect(await raw.next()).toMatchObject({ done });
    }
  });
});
