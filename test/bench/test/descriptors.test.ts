import { expect, test } from "vitest";
import { mapBytes, programNanoseconds } from "../src/measures/host.ts";

function map(id: number, bytes: number): string {
  return `pos:\t0\nflags:\t02000002\nmap_type:\t1\nmax_entries:\t4096\nmap_flags:\t0x1\nmemlock:\t${bytes}\nmap_id:\t${id}\nfrozen:\t0\n`;
}

function program(id: number, nanoseconds: number): string {
  return `pos:\t0\nprog_type:\t3\nprog_tag:\teb4bb14f6e48c3ca\nmemlock:\t65536\nprog_id:\t${id}\nrun_time_ns:\t${nanoseconds}\nrun_cnt:\t3\n`;
}

test("each map and each program of a process counts once", () => {
  const open = [map(7, 1000), program(7, 70), map(8, 24), map(7, 1000), program(9, 5), program(7, 70)].join("");
  expect(mapBytes(open)).toBe(1024);
  expect(programNanoseconds(open)).toBe(75);
});

test("a process that has none open has nothing", () => {
  expect(mapBytes(program(7, 70))).toBe(0);
  expect(programNanoseconds(map(7, 1000))).toBe(0);
});
