import { once } from "node:events";
import { theDatagramRelay } from "../../src/datagrams/index.ts";
import { thePump } from "../../src/pump/index.ts";

/** Relays datagrams between its two standard ports until it is told to end, or is killed. */
const [how, ...ports] = process.argv.slice(2);
const relay = theDatagramRelay()!;
const [a, b] = ports.map((port) => relay.bind("127.0.0.1", Number(port), false, 65_536));
const account = thePump()!.createAccount();
const sources = ["127.0.0.1"];
const sides = [
  { sockets: [a!], sources },
  { sockets: [b!], sources },
] as const;
const cell = relay.add(account, sides, ({ event }) => {
  if (event === "meeting") cell.answer(true);
});
process.stdout.write("ready\n");
await once(process.stdin, "data");
if (how === "exit") process.exit(7);
// Nothing else keeps the process alive.
process.stdin.destroy();
