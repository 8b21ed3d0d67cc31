import type { FamilySpec } from "../../src/netlink/family-spec.ts";

/** linux/ethtool_netlink.h, as far as tests go: settings of devices, with notifications. */
export const ETHTOOL = {
  name: "ethtool",
  version: 1,
  groups: ["monitor"],
  operations: {
    "channels-set": { command: 18, attributes: "channels" },
    // Commands of the kernel are counted apart.
    "channels-ntf": { command: 19, attributes: "channels" },
  },
  enums: {},
  attributes: {
    header: {
      devIndex: { type: 1, kind: "u32" },
      devName: { type: 2, kind: "string" },
    },
    channels: {
      header: { type: 1, kind: "nest", of: "header" },
      rxMax: { type: 2, kind: "u32" },
      txMax: { type: 3, kind: "u32" },
      rxCount: { type: 6, kind: "u32" },
      txCount: { type: 7, kind: "u32" },
    },
  },
} as const satisfies FamilySpec;

/** linux/netdev.h, as far as tests go. */
export const NETDEV = {
  name: "netdev",
  version: 1,
  groups: ["mgmt"],
  operations: { "dev-get": { command: 1, attributes: "dev" } },
  enums: {},
  attributes: {
    dev: {
      ifindex: { type: 1, kind: "u32" },
      xdpFeatures: { type: 3, kind: "u64" },
    },
  },
} as const satisfies FamilySpec;

/** No kernel has it: every kind of attribute. */
export const EVERYTHING = {
  name: "everything",
  version: 1,
  groups: [],
  operations: { do: { command: 1, attributes: "all" } },
  enums: { colour: ["red", "green", "blue"] },
  attributes: {
    all: {
      tiny: { type: 1, kind: "u8" },
      small: { type: 2, kind: "u16" },
      number: { type: 3, kind: "u32" },
      large: { type: 4, kind: "u64" },
      text: { type: 5, kind: "string", maxBytes: 100 },
      bytes: { type: 6, kind: "binary", minBytes: 1, maxBytes: 100 },
      yes: { type: 7, kind: "flag" },
      colour: { type: 8, kind: "u8", values: "colour" },
      ranged: { type: 9, kind: "u32", min: 10, max: 20 },
      inner: { type: 10, kind: "nest", of: "inner" },
      numbers: { type: 11, kind: "u16", multi: true },
      inners: { type: 12, kind: "nest", of: "inner", multi: true },
      list: { type: 13, kind: "list", of: "inner" },
    },
    inner: {
      number: { type: 1, kind: "u32" },
      deeper: { type: 2, kind: "nest", of: "deeper" },
    },
    deeper: {
      bytes: { type: 1, kind: "binary" },
    },
  },
} as const satisfies FamilySpec;
