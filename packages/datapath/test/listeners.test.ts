import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { Listeners } from "../src/kernel/listeners.ts";

const HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

describe("ports on which somebody listens", () => {
  it("are those of both tables that are in that state", async () => {
    const folder = mkdtempSync(join(tmpdir(), "isthmus-listeners-"));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const [ipv4, ipv6] = [join(folder, "tcp"), join(folder, "tcp6")];
    writeFileSync(
      ipv4,
      `${HEAD}   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1\n` +
        "   1: 0100007F:1F90 0100007F:C001 01 00000000:00000000 00:00000000 00000000     0        0 2 1\n",
    );
    writeFileSync(
      ipv6,
      `${HEAD}   0: ${"0".repeat(32)}:01BB ${"0".repeat(32)}:0000 0A 00000000:00000000 00:0 0 0 0 3\n`,
    );
    const listeners = new Listeners([ipv4, ipv6, join(folder, "absent")]);
    expect(await listeners.holds(22)).toBe(true);
    expect(await listeners.holds(443)).toBe(true);
    expect(await listeners.holds(8080)).toBe(false);
    expect(await listeners.holds(0xc001)).toBe(false);
  });

  it("are those of this host", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    onTestFinished(() => void server.close());
    await new Promise((resolve) => server.once("listening", resolve));
    expect(await new Listeners().holds((server.address() as { port: number }).port)).toBe(true);
  });
});
