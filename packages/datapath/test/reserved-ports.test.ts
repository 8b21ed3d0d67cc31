import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { reservePorts } from "../src/kernel/reserved-ports.ts";

it.each([
  ["", "20000-20999"],
  ["8080", "8080,20000-20999"],
  ["8080,9000-9100", "8080,9000-9100,20000-20999"],
  ["20000-20998", "20000-20998,20000-20999"],
  // As they were: the system knows them.
  ["20000-20999", "20000-20999\n"],
  ["8080,10000-30000", "8080,10000-30000\n"],
])("ports are reserved beside '%s'", (before, after) => {
  const folder = mkdtempSync(join(tmpdir(), "isthmus-ports-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "ip_local_reserved_ports");
  writeFileSync(file, `${before}\n`);
  reservePorts({ from: 20_000, to: 20_999 }, file);
  expect(readFileSync(file, "utf8")).toBe(after);
});
