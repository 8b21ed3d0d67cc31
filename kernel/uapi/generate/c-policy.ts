import {
  type Attribute,
  type AttributeSet,
  attributeSet,
  checkValue,
  enumOf,
  lower,
  type Operation,
  type Spec,
  upper,
} from "./spec.ts";

const SPDX = "GPL-2.0-only OR Apache-2.0";
/** Policies hold small bounds in themselves; larger ones stand apart. */
const MOST_INLINE_BOUND = 32_767;

interface Range {
  name: string;
  min: number;
  max: number;
}

/**
 * Declarations of what {@link cPolicies} defines and of the handlers that it names.
 * @param of the module that they are for, and the name of the specification's files
 */
export function cPolicyHeader(
  spec: Spec,
  source: string,
  { module, name: file }: { module: string; name: string },
): string {
  const guard = upper("", module, file, "gen_h");
  const handlers = spec.operations.list.flatMap(({ name, do: doIt, dump }) => [
    ...(doIt ? [`int ${handler(spec, name, "doit")}(struct sk_buff *skb, struct genl_info *info);`] : []),
    ...(dump ? [`int ${handler(spec, name, "dumpit")}(struct sk_buff *skb, struct netlink_callback *cb);`] : []),
  ]);
  const groups = spec["mcast-groups"].list.map(({ name }) => `\t${upper(spec.name, "nlgrp", name)},`);
  const sets = nestedSets(spec).map(
    ({ name }) => `extern const struct nla_policy ${policyName(spec, name)}[${upper(spec.name, "a", name)}_MAX + 1];`,
  );
  return [
    `/* SPDX-License-Identifier: ${SPDX} */`,
    `/* Generated from ${source}; do not edit. */`,
    "",
    `#ifndef ${guard}`,
    `#define ${guard}`,
    "",
    "#include <net/genetlink.h>",
    "",
    `#include "../uapi/${file}.h"`,
    "",
    ...sets,
    "",
    ...handlers,
    "",
    ...(groups.length === 0 ? [] : ["enum {", ...groups, "};", ""]),
    `extern struct genl_family ${spec.name}_nl_family;`,
    "",
    `#endif /* ${guard} */`,
    "",
  ].join("\n");
}

/** Policies that refuse before a handler is called, the table of operations, and the family. */
export function cPolicies(spec: Spec, source: string, file: string): string {
  const ranges = new Map<string, Range>();
  const nested = nestedSets(spec).map((set) => policy(spec, set, set.attributes, policyName(spec, set.name), ranges));
  const requests = spec.operations.list.flatMap((operation) => {
    const chosen = requestAttributes(spec, operation);
    if (chosen.length === 0) return [];
    const set = attributeSet(spec, operation["attribute-set"]);
    return [`static ${policy(spec, set, chosen, policyName(spec, operation.name), ranges)}`];
  });
  const groups = spec["mcast-groups"].list.map(
    ({ name }) =>
      `\t[${upper(spec.name, "nlgrp", name)}] = {\n\t\t.name\t= ${upper(spec.name, "mcgrp", name)},\n` +
      "\t\t.flags\t= GENL_MCAST_CAP_NET_ADMIN,\n\t},",
  );
  return [
    `// SPDX-License-Identifier: ${SPDX}`,
    `/* Generated from ${source}; do not edit. */`,
    "",
    "#include <net/netlink.h>",
    "#include <net/genetlink.h>",
    "",
    `#include "${file}-gen.h"`,
    "",
    // Kernels before 6.7 point to them without const.
    ...Array.from(
      ranges.values(),
      ({ name, min, max }) =>
        `static struct netlink_range_validation ${name} = {\n\t.min\t= ${min},\n\t.max\t= ${max},\n};\n`,
    ),
    ...nested,
    ...requests,
    `static const struct genl_ops ${spec.name}_nl_ops[] = {`,
    ...spec.operations.list.flatMap((operation) => operationEntry(spec, operation)),
    "};",
    "",
    ...(groups.length === 0
      ? []
      : [`static const struct genl_multicast_group ${spec.name}_nl_mcgrps[] = {`, ...groups, "};", ""]),
    `struct genl_family ${spec.name}_nl_family __ro_after_init = {`,
    `\t.name\t\t= ${upper(spec.name)}_FAMILY_NAME,`,
    `\t.version\t= ${upper(spec.name)}_FAMILY_VERSION,`,
    "\t.netnsok\t= true,",
    "\t.parallel_ops\t= true,",
    "\t.module\t\t= THIS_MODULE,",
    `\t.ops\t\t= ${spec.name}_nl_ops,`,
    `\t.n_ops\t\t= ARRAY_SIZE(${spec.name}_nl_ops),`,
    "\t.resv_start_op\t= 1,",
    ...(groups.length === 0
      ? []
      : [`\t.mcgrps\t\t= ${spec.name}_nl_mcgrps,`, `\t.n_mcgrps\t= ARRAY_SIZE(${spec.name}_nl_mcgrps),`]),
    "};",
    "",
  ].join("\n");
}

/** Sets that requests nest, each after those that it nests itself. */
function nestedSets(spec: Spec): AttributeSet[] {
  const found = new Set<AttributeSet>();
  const visit = (attributes: Attribute[]): void => {
    for (const attribute of attributes) {
      const name = attribute["nested-attributes"];
      if (name === undefined) continue;
      const set = attributeSet(spec, name);
      visit(set.attributes);
      found.add(set);
    }
  };
  for (const operation of spec.operations.list) visit(requestAttributes(spec, operation));
  return [...found];
}

function requestAttributes(spec: Spec, operation: Operation): Attribute[] {
  const names = [...(operation.do?.request?.attributes ?? []), ...(operation.dump?.request?.attributes ?? [])];
  return attributeSet(spec, operation["attribute-set"]).attributes.filter(({ name }) => names.includes(name));
}

function policyName(spec: Spec, name: string): string {
  return lower(spec.name, name, "nl_policy");
}

function handler(spec: Spec, operation: string, kind: "doit" | "dumpit"): string {
  return lower(spec.name, "nl", operation, kind);
}

function policy(
  spec: Spec,
  set: AttributeSet,
  attributes: Attribute[],
  name: string,
  ranges: Map<string, Range>,
): string {
  const constant = (attribute: Attribute): string => upper(spec.name, "a", set.name, attribute.name);
  const size = attributes.length === set.attributes.length ? upper(spec.name, "a", set.name, "max") : undefined;
  return [
    `const struct nla_policy ${name}[${size ?? constant(attributes.at(-1)!)} + 1] = {`,
    ...attributes.map((attribute) => `\t[${constant(attribute)}] = ${rule(spec, attribute, ranges)},`),
    "};",
    "",
  ].join("\n");
}

function rule(spec: Spec, attribute: Attribute, ranges: Map<string, Range>): string {
  const { type, checks } = attribute;
  if (type === "flag") return "{ .type = NLA_FLAG }";
  if (type === "string") return "{ .type = NLA_NUL_STRING }";
  if (type === "nest") return `NLA_POLICY_NESTED(${policyName(spec, attribute["nested-attributes"]!)})`;
  if (type === "binary") return `NLA_POLICY_RANGE(NLA_BINARY, ${checks!["min-len"]!}, ${checks!["max-len"]!})`;
  const kind = `NLA_${type.toUpperCase()}`;
  if (attribute.enum) return `NLA_POLICY_MAX(${kind}, ${enumOf(spec, attribute.enum).entries.length - 1})`;
  if (!checks) return `{ .type = ${kind} }`;
  const { min, max } = checks;
  if (max === undefined) return `NLA_POLICY_MIN(${kind}, ${checkValue(spec, min!)})`;
  const [from, to] = [checkValue(spec, min ?? 0), checkValue(spec, max)];
  if (to <= MOST_INLINE_BOUND) {
    return min === undefined ? `NLA_POLICY_MAX(${kind}, ${to})` : `NLA_POLICY_RANGE(${kind}, ${from}, ${to})`;
  }
  const range = { name: lower(spec.name, "range", String(from), String(to)), min: from, max: to };
  ranges.set(range.name, range);
  return `NLA_POLICY_FULL_RANGE(${kind}, &${range.name})`;
}

function operationEntry(spec: Spec, operation: Operation): string[] {
  if (!operation.do && !operation.dump) return [];
  const attributes = requestAttributes(spec, operation);
  const set = operation["attribute-set"];
  const isWhole = attributes.length === attributeSet(spec, set).attributes.length;
  return [
    "\t{",
    `\t\t.cmd\t= ${upper(spec.name, "cmd", operation.name)},`,
    ...(operation.do ? [`\t\t.doit\t= ${handler(spec, operation.name, "doit")},`] : []),
    ...(operation.dump ? [`\t\t.dumpit\t= ${handler(spec, operation.name, "dumpit")},`] : []),
    ...(attributes.length > 0
      ? [
          `\t\t.policy\t= ${policyName(spec, operation.name)},`,
          `\t\t.maxattr\t= ${upper(spec.name, "a", set, isWhole ? "max" : attributes.at(-1)!.name)},`,
        ]
      : []),
    ...(operation.flags?.includes("admin-perm") ? ["\t\t.flags\t= GENL_UNS_ADMIN_PERM,"] : []),
    "\t},",
  ];
}
