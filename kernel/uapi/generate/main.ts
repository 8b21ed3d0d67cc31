/** Writes what is generated from the netlink specifications: `npm run generate -w @isthmus/kernel`. */
import { writeFileSync } from "node:fs";
import { generatedFiles, inRepository } from "./outputs.ts";

for (const { path, text } of generatedFiles("ist")) writeFileSync(inRepository(path), text);
