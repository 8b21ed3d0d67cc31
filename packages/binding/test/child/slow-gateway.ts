/** A fake gateway as a process of its own: its work is not to be done in the event loop that is measured. */
import { FakeGateway } from "@isthmus/portmap/testing";

const delayMs = Number(process.argv[2]);
const fake = await FakeGateway.start({ delayMs });
process.on("message", () => {
  process.send?.(fake.mappings.all.map(({ externalPort }) => externalPort));
});
process.on("disconnect", () => process.exit());
process.send?.(fake.optionsFor("127.0.0.2").ports);
