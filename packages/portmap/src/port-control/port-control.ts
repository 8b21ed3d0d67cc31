import type { Protocol } from "../gateway.ts";

/** Where gateways listen for NAT-PMP and PCP alike. */
export const PORT_CONTROL_PORT = 5351;

/** Where they announce themselves, to 224.0.0.1. */
export const ANNOUNCEMENT_PORT = 5350;

/** Set in the second byte of every answer. */
export const ANSWER_BIT = 0x80;

export const PROTOCOL_NUMBERS: Record<Protocol, number> = { tcp: 6, udp: 17 };
