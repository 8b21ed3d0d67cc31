import { type FamilySpec, IST_FAMILY } from "@isthmus/native/netlink";

type Specification = FamilySpec["attributes"][string][string];

/** An attribute of a request, right or wrong. */
export interface Attribute {
  readonly type: number;
  readonly payload: Uint8Array | readonly Attribute[];
  /** Whether it says that it is a nest; when absent, the truth. */
  readonly isNest?: boolean;
  /** The length in its header, when it lies. */
  readonly length?: number;
}

const HEADER_BYTES = 4;
const NESTED = 0x8000;
const NUMBER_BYTES: Record<string, number> = { u8: 1, u16: 2, u32: 4, u64: 8 };

export const IST_SETS: FamilySpec["attributes"] = IST_FAMILY.attributes;

/** Attributes one behind the other, as a request of generic netlink has them behind its headers. */
export function encode(attributes: readonly Attribute[]): Buffer {
  return Buffer.concat(attributes.map(encodeOne));
}

function encodeOne({ type, payload, isNest, length }: Attribute): Buffer {
  const bytes = payload instanceof Uint8Array ? payload : encode(payload);
  const nested = isNest ?? !(payload instanceof Uint8Array);
  const attribute = Buffer.alloc(HEADER_BYTES + Math.ceil(bytes.length / 4) * 4);
  attribute.writeUInt16LE(length ?? HEADER_BYTES + bytes.length, 0);
  attribute.writeUInt16LE(nested ? type | NESTED : type, 2);
  attribute.set(bytes, HEADER_BYTES);
  return attribute;
}

/** Values by the names of a set, without a look at what may be in them. */
export function specified(set: string, values: object): Attribute[] {
  return Object.entries(values).flatMap(([name, each]) => {
    const specification = IST_SETS[set]![name]!;
    const all: unknown[] = specification.multi ? (each as unknown[]) : [each];
    return all.map((one) => ({ type: specification.type, payload: payloadOf(specification, one) }));
  });
}

function payloadOf(specification: Specification, one: unknown): Uint8Array | Attribute[] {
  if (specification.kind === "nest") return specified(specification.of!, one as object);
  if (one instanceof Uint8Array) return one;
  const index = specification.values && IST_FAMILY.enums[specification.values as "mode"].indexOf(one as "pure");
  return numberBytes(specification, BigInt(typeof index === "number" && index >= 0 ? index : (one as number)));
}

/** A number as an attribute of a kind has it; of what is too large, what fits. */
export function numberBytes({ kind }: Specification, number: bigint): Uint8Array {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt.asUintN(64, number));
  return Uint8Array.from(bytes.subarray(0, NUMBER_BYTES[kind]!));
}

/** How many bytes a number has; undefined for what is none. */
export function numberSize({ kind }: Specification): number | undefined {
  return NUMBER_BYTES[kind];
}
