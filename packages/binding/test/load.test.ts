import { fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { PortMapper, type PortMapperOptions } from "@isthmus/portmap";
import { expect, it, onTestFinished } from "vitest";
import { bindOf, newFolder, startBinding } from "./binding-at.ts";

const HOST = "127.0.0.2";
/** The whole load takes most of a core, here and in the gateway's process: it is for machines that do nothing else. */
const [PER_SECOND, SECONDS] = process.env.ISTHMUS_FULL === "1" ? [500, 60] : [150, 4];
/** What the gateway takes for each answer. */
const GATEWAY_MS = 30;
const LIMIT_MS = 500;
/** What an answer that is due at the limit may take until it is seen, beside the time for which this process had no turn. */
const FORGIVEN_MS = 250;
const SETTLED_MS = 5000;
const TICK_MS = 10;
/** Sockets that are open at a time. */
const OPEN = 100;

it(`${PER_SECOND} binds and closes a second at a gateway that takes ${GATEWAY_MS} ms: no bind waits longer than the limit, and all is as it ought to be ${SETTLED_MS} ms later`, {
  timeout: SECONDS * 1000 + 60_000,
}, async () => {
  const child = fork(join(import.meta.dirname, "child", "slow-gateway.ts"), [String(GATEWAY_MS)], {
    execArgv: ["--conditions=source"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  const [ports] = (await once(child, "message")) as [NonNullable<PortMapperOptions["ports"]>];
  const look = async (): Promise<number[]> => {
    child.send("look");
    return ((await once(child, "message")) as [number[]])[0].sort((a, b) => a - b);
  };
  const mapper = new PortMapper({
    route: () => Promise.resolve({ gateway: "127.0.0.1", localAddress: HOST }),
    ownAddresses: () => [HOST],
    ports,
  });
  onTestFinished(() => mapper.stop());
  await mapper.start();
  const binding = await startBinding(newFolder(), {
    gateway: mapper,
    ownAddresses: () => [HOST],
    answerMs: LIMIT_MS,
    mostSocketsPerUser: 10_000,
  });
  const open: { socket: string; port: number }[] = [];
  const answers: Promise<void>[] = [];
  let longestMs = 0;
  let next = 0;
  const bindOne = (): void => {
    const request = bindOf(20_000 + (next++ % 20_000));
    const startedMs = performance.now();
    open.push(request);
    answers.push(
      binding.bind(request).then(() => {
        longestMs = Math.max(longestMs, performance.now() - startedMs);
      }),
    );
  };
  const turns = monitorEventLoopDelay({ resolution: TICK_MS });
  turns.enable();
  const beganMs = performance.now();
  const total = PER_SECOND * SECONDS;
  while (next < total) {
    const due = Math.min(total, ((performance.now() - beganMs) / 1000) * PER_SECOND);
    while (next < due) {
      bindOne();
      if (open.length > OPEN) binding.close("", open.shift()!.socket);
    }
    await sleep(TICK_MS);
  }
  await Promise.all(answers);
  turns.disable();
  const endMs = performance.now();
  let seen: number[];
  const wanted = open.map(({ port }) => port).sort((a, b) => a - b);
  for (;;) {
    seen = await look();
    if (seen.join() === wanted.join() || performance.now() - endMs > SETTLED_MS) break;
    await sleep(100);
  }
  expect(longestMs).toBeLessThan(LIMIT_MS + FORGIVEN_MS + turns.max / 1e6);
  expect(seen).toEqual(wanted);
});
