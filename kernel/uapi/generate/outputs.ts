import { spawnSync } from "node:child_process";
import { join, resolve } from "node:path";
import { cHeader } from "./c-header.ts";
import { cPolicies, cPolicyHeader } from "./c-policy.ts";
import { readSpec } from "./spec.ts";
import { typescript } from "./typescript.ts";

const root = resolve(import.meta.dirname, "../../..");

/** Specifications by the names of their files, and whose they are: the folder and the name of a module. */
const MODULES = {
  ist: { folder: "splice", module: "ist_splice" },
  natpass: { folder: "natpass", module: "nat_pass" },
};
export type SpecName = keyof typeof MODULES;
export const SPECS = Object.keys(MODULES) as SpecName[];

/** Every file that is generated from a specification, its path from the repository's root and its text. */
export function generatedFiles(name: SpecName): { path: string; text: string }[] {
  const source = `kernel/uapi/${name}.yaml`;
  const spec = readSpec(join(root, source));
  const types = `packages/native/src/netlink/${name}.ts`;
  const { folder, module } = MODULES[name];
  return [
    { path: `kernel/uapi/${name}.h`, text: cHeader(spec, source) },
    { path: `kernel/${folder}/${name}-gen.h`, text: cPolicyHeader(spec, source, { module, name }) },
    { path: `kernel/${folder}/${name}-gen.c`, text: cPolicies(spec, source, name) },
    { path: types, text: formatted(typescript(spec, source), types) },
  ];
}

export function inRepository(path: string): string {
  return join(root, path);
}

function formatted(text: string, path: string): string {
  const biome = join(root, "node_modules/.bin/biome");
  const { status, stdout, stderr } = spawnSync(biome, ["format", `--stdin-file-path=${path}`], {
    cwd: root,
    input: text,
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`biome does not take ${path}: ${stderr}`);
  return stdout;
}
