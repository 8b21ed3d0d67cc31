/** Writes what is generated from the netlink specifications: `npm run generate -w @isthmus/kernel`. */
import { writeFileSync } from "node:fs";
import { generatedFiles, inRepository, SPECS } from "./outputs.ts";

for (const { path, text } of SPECS.flatMap(generatedFiles)) writeFileSync(inRepository(path), text);
