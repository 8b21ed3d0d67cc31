import type { FamilySpec } from "./family-spec.ts";

/** Its id is fixed, so that those of the others can be asked for. */
export const NLCTRL_ID = 16;

/** The family of families (linux/genetlink.h), as far as it is used here. */
export const NLCTRL = {
  name: "nlctrl",
  version: 2,
  groups: ["notify"],
  operations: {
    newfamily: { command: 1, attributes: "family" },
    delfamily: { command: 2, attributes: "family" },
    getfamily: { command: 3, attributes: "family" },
  },
  enums: {},
  attributes: {
    family: {
      familyId: { type: 1, kind: "u16" },
      familyName: { type: 2, kind: "string" },
      version: { type: 3, kind: "u32" },
      hdrsize: { type: 4, kind: "u32" },
      maxattr: { type: 5, kind: "u32" },
      mcastGroups: { type: 7, kind: "list", of: "mcastGroup" },
    },
    mcastGroup: {
      name: { type: 1, kind: "string" },
      id: { type: 2, kind: "u32" },
    },
  },
} as const satisfies FamilySpec;
