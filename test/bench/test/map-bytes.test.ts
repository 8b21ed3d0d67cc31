import { expect, test } from "vitest";
import { mapBytes } from "../src/measures/host.ts";

test("each map of a process counts once, and nothing else that it has open", () => {
  const map = (id: number, bytes: number): string =>
    `pos:\t0\nflags:\t02000002\nmap_type:\t1\nmax_entries:\t4096\nmap_flags:\t0x1\nmemlock:\t${bytes}\nmap_id:\t${id}\nfrozen:\t0\n`;
  const program = "pos:\t0\nprog_type:\t3\nmemlock:\t8192\nprog_id:\t41\n";
  expect(mapBytes([map(7, 1000), program, map(8, 24), map(7, 1000)].join(""))).toBe(1024);
  expect(mapBytes(program)).toBe(0);
});
