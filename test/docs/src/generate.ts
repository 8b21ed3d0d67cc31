import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { cliPage } from "./cli-page.ts";
import { configurationPage } from "./configuration-page.ts";
import { withShownFolders } from "./environment.ts";
import { metricsPage } from "./metrics-page.ts";
import { loadPrograms } from "./programs.ts";

/** Where the pages are kept. */
export const REFERENCE_FOLDER = join(import.meta.dirname, "../../../docs/reference");

/** The generated pages by their names in the reference folder. */
export function referencePages(): Promise<Map<string, string>> {
  return withShownFolders(async () => {
    return new Map([
      ["cli.md", cliPage(await loadPrograms())],
      ["configuration.md", configurationPage()],
      ["metrics.md", await metricsPage()],
    ]);
  });
}

if (import.meta.main) {
  for (const [name, page] of await referencePages()) writeFileSync(join(REFERENCE_FOLDER, name), page);
}
