import { toIsthmusError } from "@isthmus/protocol";
import { dial } from "../../src/dial.ts";

// Dials argument 1 without a pin and says `open`, or the code of the refusal. In a process of its own, since Node reads
// which CAs the system trusts once.
const [origin] = process.argv.slice(2) as [string];
const options = { allowInsecure: false, maxPayload: 1024, timeoutMs: 10_000, signal: new AbortController().signal };
try {
  (await dial(origin, options)).socket.terminate();
  process.stdout.write("open\n");
} catch (error) {
  process.stdout.write(`${toIsthmusError(error).code}\n`);
}
