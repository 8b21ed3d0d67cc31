import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { loadOrCreateCertificate } from "@isthmus/service";
import { afterAll, beforeAll, expect, it } from "vitest";
import { RedisProcess } from "../src/testing.ts";
import { runChild } from "./child/run.ts";

let folder: string;
let redis: RedisProcess;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "isthmus-tls-"));
  await loadOrCreateCertificate(folder, "localhost");
  redis = await RedisProcess.start({
    config: (port) => [
      "port 0",
      `tls-port ${port}`,
      `tls-cert-file ${join(folder, "tls-cert.pem")}`,
      `tls-key-file ${join(folder, "tls-key.pem")}`,
      "tls-auth-clients no",
    ],
  });
});

afterAll(async () => {
  await redis.remove();
  await rm(folder, { recursive: true });
});

/** In a process of its own: Node reads which certificates to trust once, at its start. */
function openedFrom(env: NodeJS.ProcessEnv): Promise<string> {
  return text(runChild("open.ts", [`rediss://localhost:${redis.port}`], [], env).stdout);
}

it("talks to Redis over TLS when its certificate is trusted, and only then", async () => {
  expect(await openedFrom({ NODE_EXTRA_CA_CERTS: join(folder, "tls-cert.pem") })).toBe("value true\n");
  expect(await openedFrom({ NODE_EXTRA_CA_CERTS: undefined })).toContain("self-signed certificate");
});
