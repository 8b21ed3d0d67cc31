import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { describe, expect, it } from "vitest";

/** The layers of packages/: imports go down only, never sideways (see CONTRIBUTING.md). */
const LAYERS: Record<string, number> = {
  protocol: 0,
  native: 0,
  service: 0,
  session: 1,
  store: 1,
  datapath: 1,
  portmap: 1,
  traversal: 1,
  behaviour: 1,
  link: 2,
  relay: 2,
  broker: 2,
  agent: 3,
  binding: 3,
};

const root = resolve(import.meta.dirname, "../..");
const IMPORT = /(?:\bfrom\s*|\bimport\s*\(?\s*)["']([^"']+)["']/g;

interface Module {
  path: string;
  imports: string[];
}

function workspaces(folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name);
}

function modulesOf(folder: string): Module[] {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(".ts"))
    .map((entry) => join(entry.parentPath, entry.name))
    .map((path) => ({
      path,
      imports: [...readFileSync(path, "utf8").matchAll(IMPORT)].map((match) => match[1]!),
    }));
}

function ours(modules: Module[]): { path: string; name: string }[] {
  return modules.flatMap(({ path, imports }) =>
    imports
      .filter((name) => name.startsWith("@isthmus/"))
      .map((name) => ({ path: relative(root, path), name: name.split("/")[1]! })),
  );
}

function dependenciesOf(folder: string): string[] {
  const manifest = JSON.parse(readFileSync(join(root, folder, "package.json"), "utf8")) as {
    dependencies?: Record<string, string>;
  };
  return Object.keys(manifest.dependencies ?? {})
    .filter((name) => name.startsWith("@isthmus/"))
    .map((name) => name.split("/")[1]!);
}

const packages = workspaces("packages");
const apps = workspaces("apps");

describe("imports", () => {
  it("finds the packages and apps at all", () => {
    expect(packages).toContain("protocol");
    expect(apps).toContain("daemon");
  });

  it.each(packages)("packages/%s has a layer", (name) => {
    expect(Object.keys(LAYERS)).toContain(name);
  });

  it.each(packages)("packages/%s imports lower layers alone, in code and in its manifest", (name) => {
    const layer = LAYERS[name]!;
    const imported = [
      ...ours(modulesOf(`packages/${name}/src`)),
      ...dependenciesOf(`packages/${name}`).map((dependency) => ({
        path: `packages/${name}/package.json`,
        name: dependency,
      })),
    ];
    const wrong = imported.filter((entry) => entry.name !== name && !(LAYERS[entry.name]! < layer));
    expect(wrong).toEqual([]);
  });

  it.each(apps)("apps/%s imports packages alone, no other app", (name) => {
    const imported = [
      ...ours(modulesOf(`apps/${name}/src`)),
      ...dependenciesOf(`apps/${name}`).map((dependency) => ({ path: `apps/${name}/package.json`, name: dependency })),
    ];
    expect(imported.filter((entry) => !packages.includes(entry.name))).toEqual([]);
  });

  it.each([...packages.map((name) => `packages/${name}`), ...apps.map((name) => `apps/${name}`)])(
    "%s declares what it imports and never reaches into another folder",
    (folder) => {
      const modules = modulesOf(`${folder}/src`);
      const declared = new Set([folder.split("/")[1]!, ...dependenciesOf(folder)]);
      expect(ours(modules).filter(({ name }) => !declared.has(name))).toEqual([]);
      const outside = modules.flatMap(({ path, imports }) =>
        imports
          .filter(
            (name) =>
              name.startsWith(".") && relative(join(root, folder), resolve(dirname(path), name)).startsWith(".."),
          )
          .map((name) => `${relative(root, path)}: ${name}`),
      );
      expect(outside).toEqual([]);
    },
  );

  it("knows no folder called utils or common", () => {
    const names = [...packages, ...apps].flatMap((name) =>
      ["packages", "apps"].flatMap((parent) => {
        try {
          return readdirSync(join(root, parent, name, "src"), { recursive: true }).map(String);
        } catch {
          return [];
        }
      }),
    );
    expect(names.filter((path) => /(^|\/)(utils?|common|helpers?|misc)(\.ts)?($|\/)/.test(path))).toEqual([]);
  });
});
