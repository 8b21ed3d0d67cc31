// Generated from kernel/uapi/natpass.yaml; do not edit.

/**
 * What the NAT Pass module tells the process that maps ports on the gateway,
 * and what it hears from it. State is per network namespace; everything needs
 * CAP_NET_ADMIN in the namespace's user namespace.
 *
 * One socket registers. It is told of every relevant bind and close from then
 * on, by messages to that socket alone; when it is closed, or its process dies,
 * binds are as they ever were. Numbers, ports among them, are in host byte
 * order; addresses are 4 or 16 bytes in network byte order.
 */
export const NAT_PASS_FAMILY = {
  name: "nat_pass",
  version: 1,
  groups: [],
  operations: {
    register: { command: 1, attributes: "policy" },
    unregister: { command: 2, attributes: "policy" },
    succeeded: { command: 3, attributes: "port" },
    failed: { command: 4, attributes: "port" },
    ignored: { command: 5, attributes: "port" },
    "port-get": { command: 6, attributes: "port" },
    "port-bind": { command: 7, attributes: "port" },
    "port-close": { command: 8, attributes: "port" },
  },
  enums: {
    state: ["waiting", "succeeded", "failed", "ignored"],
  },
  attributes: {
    exclusion: {
      protocol: { type: 1, kind: "u8" },
      port: { type: 2, kind: "u16", min: 1 },
      to: { type: 3, kind: "u16" },
    },
    policy: {
      dualStack: { type: 1, kind: "flag" },
      wait: { type: 2, kind: "u32", min: 1, max: 10000 },
      exclusion: { type: 3, kind: "nest", of: "exclusion", multi: true },
    },
    port: {
      seq: { type: 1, kind: "u32" },
      protocol: { type: 2, kind: "u8" },
      family: { type: 3, kind: "u8" },
      address: { type: 4, kind: "binary" },
      port: { type: 5, kind: "u16" },
      pid: { type: 6, kind: "u32" },
      uid: { type: 7, kind: "u32" },
      comm: { type: 8, kind: "string" },
      state: { type: 9, kind: "u8", values: "state" },
      sockets: { type: 10, kind: "u32" },
    },
  },
} as const;

/** ports below are never reported */
export const NAT_PASS_FIRST_PORT = 1024;

/** how long a bind waits for its answer, unless the policy says otherwise */
export const NAT_PASS_WAIT_MS = 500;

export const NAT_PASS_MAX_WAIT_MS = 10000;

export const NAT_PASS_MAX_EXCLUSIONS = 256;

/**
 * what has become of a bind
 * - waiting: its caller waits for the answer
 * - succeeded
 * - failed: the caller sees EADDRINUSE, and the port is free again
 * - ignored: so was the answer, or there was none in time
 */
export type NatPassState = "waiting" | "succeeded" | "failed" | "ignored";

/** ports that are not reported */
export interface NatPassExclusion {
  /** of IPPROTO_*; any when absent */
  protocol?: number | undefined;
  /** the first */
  port?: number | undefined;
  /** the last; the first alone when absent */
  to?: number | undefined;
}

/** which binds are reported */
export interface NatPassPolicy {
  /** those of IPv6 sockets that take IPv4 too */
  dualStack?: boolean | undefined;
  /** milliseconds that a bind waits at most; 500 when absent */
  wait?: number | undefined;
  exclusion?: NatPassExclusion[] | undefined;
}

/** a port, and the socket that took it first */
export interface NatPassPort {
  /** names this bind in the answer and in the close */
  seq?: number | undefined;
  /** of IPPROTO_*; MPTCP is TCP */
  protocol?: number | undefined;
  /** of AF_* */
  family?: number | undefined;
  /** the one asked for */
  address?: Uint8Array | undefined;
  port?: number | undefined;
  /** of the process, as the registered one's PID namespace has it; 0 when it is not in there */
  pid?: number | undefined;
  /** of the caller, as the network namespace's user namespace has it */
  uid?: number | undefined;
  comm?: string | undefined;
  state?: NatPassState | undefined;
  /** that hold the port, with SO_REUSEPORT or SO_REUSEADDR */
  sockets?: number | undefined;
}
