import { spawnSync } from "node:child_process";
import { constants } from "node:os";
import { delimiter, join, resolve } from "node:path";
import { findPeople, type Person } from "./world.ts";

/** `npm run -s on -- PERSON COMMAND ARGUMENTS`: runs a command on the host of a person in the running demo. */
const USAGE = "usage: npm run -s on -- alice|bob COMMAND ARGUMENTS, while 'npm start' runs in another terminal";

/** Where npm puts `isthmus`. */
const tools = resolve(import.meta.dirname, "../../../node_modules/.bin");

function runAs(pid: number, person: Person, command: string[]): number {
  const inWorld = ["--all", "--target", String(pid), "--", "ip", "netns", "exec", person.netns];
  const asUser = ["setpriv", "--reuid", String(person.uid), "--regid", String(person.uid), "--clear-groups", "--"];
  const { status, signal, error } = spawnSync("nsenter", [...inWorld, ...asUser, ...command], {
    stdio: "inherit",
    env: {
      PATH: [tools, process.env.PATH].join(delimiter),
      TERM: process.env.TERM,
      LANG: "C.UTF-8",
      HOME: person.home,
      ISTHMUS_SOCKET: person.socket,
    },
  });
  if (error) throw error;
  return signal ? 128 + constants.signals[signal] : (status ?? 1);
}

const [name, ...command] = process.argv.slice(2);
try {
  if (name === undefined || command.length === 0) throw new Error(USAGE);
  const { pid, people } = findPeople(join(import.meta.dirname, "main.js"));
  const person = people[name];
  if (!person) throw new Error(`'${name}' is none of: ${Object.keys(people).join(", ")}`);
  process.exitCode = runAs(pid, person, command);
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exitCode = 2;
}
