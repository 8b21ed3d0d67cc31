import { readFileSync } from "node:fs";
import { join } from "node:path";
import { BACKOFF_TO_ISB, BACKOFF_TO_IST, SESSION_PATH } from "@isthmus/session";
import { expect, it } from "vitest";
import { BUFFER_LIMIT_BYTES, CONGESTION_LIMIT_MS, PUSH_LIMIT_BYTES } from "../src/wire.ts";
import { startServer } from "./harness.ts";
import { RawClient } from "./raw-client.ts";

const root = join(import.meta.dirname, "..", "..", "..");
const page = readFileSync(join(root, "docs", "reference", "protocol.md"), "utf8").replaceAll(/\s+/g, " ");

it("the reference states the numbers that this package applies", () => {
  expect(page).toContain(`\`GET ${SESSION_PATH}\``);
  expect(page).toContain(`Above ${PUSH_LIMIT_BYTES / 1024} KiB of unsent bytes`);
  expect(page).toContain(`Above ${BUFFER_LIMIT_BYTES / 1024 ** 2} MiB, or after ${CONGESTION_LIMIT_MS / 1000} s`);
  const seconds = (ms: number): string => `${ms / 1000} s`;
  expect(page).toContain(
    `from ${seconds(BACKOFF_TO_ISB.firstMs)} to ${seconds(BACKOFF_TO_ISB.mostMs)} (towards an IST ${seconds(BACKOFF_TO_IST.mostMs)}), to ${seconds(BACKOFF_TO_ISB.longMs)} after two minutes`,
  );
  expect(BACKOFF_TO_ISB.longAfterMs).toBe(120_000);
});

it("the reference states how a session ends", async () => {
  const server = await startServer();
  const client = new RawClient(server.origin);
  await client.hello();
  const status = new Promise<number>((resolve) => client.socket.on("close", resolve));
  await server.gate.close();
  expect(page).toContain(`closes it with status ${await status} and the reason's code`);
});
