import { spawnSync } from "node:child_process";
import { join, resolve } from "node:path";
import { cHeader } from "./c-header.ts";
import { cPolicies, cPolicyHeader } from "./c-policy.ts";
import { readSpec } from "./spec.ts";
import { typescript } from "./typescript.ts";

const root = resolve(import.meta.dirname, "../../..");

/** Every generated file of a family, its path from the repository's root and its text. */
export function generatedFiles(family: string): { path: string; text: string }[] {
  const source = `kernel/uapi/${family}.yaml`;
  const spec = readSpec(join(root, source));
  const types = `packages/native/src/netlink/${family}.ts`;
  return [
    { path: `kernel/uapi/${family}.h`, text: cHeader(spec, source) },
    { path: `kernel/splice/${family}-gen.h`, text: cPolicyHeader(spec, source) },
    { path: `kernel/splice/${family}-gen.c`, text: cPolicies(spec, source) },
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
