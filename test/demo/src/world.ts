import { readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { WORLD_FOLDER, WORLD_MARK } from "@isthmus/lab";

const main = process.argv[1] ?? "";

/** Whom `npm run on` finds in a running demo. */
export interface Person {
  netns: string;
  uid: number;
  /** The daemon's. */
  socket: string;
  home: string;
}

/** Seen from inside the world. */
const PEOPLE_FILE = join(WORLD_FOLDER, "demo.json");

export function isInWorld(): boolean {
  return process.env[WORLD_MARK] === "1";
}

/** Becomes this program once more, inside a world of its own. */
export function enterWorld(args: string[]): never {
  const lab = import.meta.resolve("@isthmus/lab");
  const enter = fileURLToPath(new URL(lab.endsWith(".ts") ? "enter.ts" : "enter.js", lab));
  const command = [process.execPath, ...process.execArgv];
  process.execve!(process.execPath, [...command, enter, ...command, main, ...args], process.env);
  throw new Error("unreachable");
}

export function publishPeople(people: Record<string, Person>): void {
  writeFileSync(PEOPLE_FILE, JSON.stringify(people));
}

/** The process of a running demo, by its program and by its being in another network than this process. */
function findDemo(program: string): number | undefined {
  const here = readlinkSync("/proc/self/ns/net");
  const isDemo = (pid: string): boolean => {
    try {
      const [, first] = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
      return first === program && readlinkSync(`/proc/${pid}/ns/net`) !== here;
    } catch {
      return false;
    }
  };
  const found = readdirSync("/proc").filter((name) => /^\d+$/.test(name) && isDemo(name));
  return found.length === 0 ? undefined : Math.max(...found.map(Number));
}

/**
 * The people of a running demo, and a process of its world.
 * @param program the demo's main program
 * @throws Error that says what to do when none is running
 */
export function findPeople(program: string): { pid: number; people: Record<string, Person> } {
  const pid = findDemo(program);
  const none =
    "no demo is running: start one with 'npm start' in another terminal, and wait until it says that it works";
  if (pid === undefined) throw new Error(none);
  try {
    const text = readFileSync(join("/proc", String(pid), "root", PEOPLE_FILE), "utf8");
    return { pid, people: JSON.parse(text) as Record<string, Person> };
  } catch (error) {
    throw new Error(none, { cause: error });
  }
}
