import { createLogger, stopOnSignals } from "@isthmus/service";

// A process with something to stop: argument 1 says how its stop goes.
const [manner] = process.argv.slice(2);
const work = setInterval(() => undefined, 1000);
const write = (line: string): void => void process.stdout.write(line);
stopOnSignals(createLogger({ name: "test", level: "info", write }), async () => {
  write("stop called\n");
  if (manner === "stuck") await new Promise(() => undefined);
  if (manner === "fails") throw new Error("cannot stop");
  clearInterval(work);
});
if (manner === "throws") setImmediate(() => Promise.reject(new Error("unexpected")));
else write("ready\n");
