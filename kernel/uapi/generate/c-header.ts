import { FAMILY_VERSION, type Spec, upper } from "./spec.ts";

/** The header that user space, the module, core and BPF share: numbers and names, nothing else. */
export function cHeader(spec: Spec, source: string): string {
  const family = spec.name;
  const guard = `_UAPI_ISTHMUS_${upper(family)}_H`;
  const lines = [
    "/* SPDX-License-Identifier: ((GPL-2.0-only WITH Linux-syscall-note) OR Apache-2.0) */",
    `/* Generated from ${source}; do not edit. */`,
    "",
    `#ifndef ${guard}`,
    `#define ${guard}`,
    "",
    `#define ${upper(family)}_FAMILY_NAME\t"${family}"`,
    `#define ${upper(family)}_FAMILY_VERSION\t${FAMILY_VERSION}`,
    "",
  ];
  for (const definition of spec.definitions) {
    if (definition.type === "const") {
      lines.push(`#define ${upper(family, definition.name)}\t${definition.value}`);
    } else {
      const prefix = upper(family, definition.name);
      lines.push("", ...comment(definition.doc), `enum ${family}_${definition.name.replaceAll("-", "_")} {`);
      for (const { name } of definition.entries) lines.push(`\t${upper(prefix, name)},`);
      lines.push("", "\t/* private: */", `\t__${prefix}_COUNT,`, "};");
    }
  }
  for (const set of spec["attribute-sets"]) {
    const prefix = upper(family, "a", set.name);
    lines.push("", "enum {");
    set.attributes.forEach(({ name }, index) => {
      lines.push(`\t${upper(prefix, name)}${index === 0 ? " = 1" : ""},`);
    });
    lines.push("", `\t__${prefix}_MAX,`, `\t${prefix}_MAX = (__${prefix}_MAX - 1)`, "};");
  }
  const command = upper(family, "cmd");
  lines.push("", "enum {");
  spec.operations.list.forEach(({ name }, index) => {
    lines.push(`\t${upper(command, name)}${index === 0 ? " = 1" : ""},`);
  });
  lines.push("", `\t__${command}_MAX,`, `\t${command}_MAX = (__${command}_MAX - 1)`, "};", "");
  const groups = spec["mcast-groups"].list.map(({ name }) => `#define ${upper(family, "mcgrp", name)}\t"${name}"`);
  if (groups.length > 0) lines.push(...groups, "");
  lines.push(`#endif /* ${guard} */`, "");
  return lines.join("\n");
}

function comment(doc: string | undefined): string[] {
  if (doc === undefined) return [];
  const lines = doc.trim().split("\n");
  return lines.length === 1 ? [`/* ${lines[0]} */`] : ["/*", ...lines.map((line) => ` * ${line}`), " */"];
}
