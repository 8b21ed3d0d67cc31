import { type AttributeWriter, type RawAttribute, readAttributes } from "./attributes.ts";
import { LITTLE_ENDIAN, viewOf } from "./byte-order.ts";
import type { AttributeSet, AttributeSpec, FamilySpec } from "./family-spec.ts";
import { NetlinkFormatError } from "./netlink-error.ts";

type Values = { [name: string]: unknown };

const NUMBER_BYTES = { u8: 1, u16: 2, u32: 4 } as const;
const MOST_U64 = 0xffff_ffff_ffff_ffffn;

/** Writes and reads the attribute sets of one family, by their specification. */
export class AttributeCodec {
  readonly #family: FamilySpec;
  /** Each set's attributes by type. */
  readonly #byType = new Map<string, Map<number, { name: string; spec: AttributeSpec }>>();

  constructor(family: FamilySpec) {
    this.#family = family;
    for (const [name, set] of Object.entries(family.attributes)) {
      const entries = Object.entries(set).map(([key, spec]) => [spec.type, { name: key, spec }] as const);
      this.#byType.set(name, new Map(entries));
    }
  }

  /**
   * Values that are absent are left out; so are flags that are false.
   * @throws NetlinkFormatError that names an attribute which does not exist, or whose value breaks its specification
   */
  write(set: string, values: object, writer: AttributeWriter): void {
    this.#write(set, values as Values, writer, "");
  }

  /**
   * The values that are there; types that the specification does not know, as a newer kernel may send, are left out, and
   * so is a name for a number that has none.
   * @throws NetlinkFormatError
   */
  read(set: string, bytes: Uint8Array): Values {
    const values: Values = {};
    const byType = this.#byType.get(set)!;
    for (const attribute of readAttributes(bytes)) {
      const known = byType.get(attribute.type);
      if (!known) continue;
      const { name, spec } = known;
      const value = this.#readOne(spec, attribute, name);
      if (value === undefined) continue;
      if (!spec.multi) values[name] = value;
      else if (values[name] === undefined) values[name] = [value];
      else (values[name] as unknown[]).push(value);
    }
    return values;
  }

  /** The attribute whose header stands at `offset` of the bytes, as a path: `cell[1].port0`. */
  nameAt(set: string, bytes: Uint8Array, offset: number): string | undefined {
    const seen = new Map<number, number>();
    for (const attribute of readAttributes(bytes)) {
      const known = this.#byType.get(set)?.get(attribute.type);
      const count = seen.get(attribute.type) ?? 0;
      seen.set(attribute.type, count + 1);
      const name = known?.spec.multi ? `${known.name}[${count}]` : (known?.name ?? `type ${attribute.type}`);
      if (attribute.offset === offset) return name;
      const start = attribute.offset + 4;
      if (offset < start || offset >= start + attribute.payload.length) continue;
      if (known?.spec.kind !== "nest") return name;
      const inner = this.nameAt(known.spec.of!, attribute.payload, offset - start);
      return inner === undefined ? name : `${name}.${inner}`;
    }
    return undefined;
  }

  /** The name of a type within the nest at `nest` of the bytes, or at the top. */
  nameOf(set: string, bytes: Uint8Array, type: number, nest?: number): string | undefined {
    if (nest === undefined) return this.#byType.get(set)?.get(type)?.name;
    for (const attribute of readAttributes(bytes)) {
      const known = this.#byType.get(set)?.get(attribute.type);
      if (known?.spec.kind !== "nest") continue;
      const start = attribute.offset + 4;
      if (attribute.offset === nest) {
        const inner = this.nameOf(known.spec.of!, attribute.payload, type);
        return inner && `${this.nameAt(set, bytes, nest)}.${inner}`;
      }
      if (nest < start || nest >= start + attribute.payload.length) continue;
      const inner = this.nameOf(known.spec.of!, attribute.payload, type, nest - start);
      return inner && `${this.nameAt(set, bytes, attribute.offset)}.${inner}`;
    }
    return undefined;
  }

  #write(set: string, values: Values, writer: AttributeWriter, path: string): void {
    const specs: AttributeSet = this.#family.attributes[set]!;
    for (const [name, value] of Object.entries(values)) {
      if (value === undefined) continue;
      const at = path === "" ? name : `${path}.${name}`;
      const spec = Object.hasOwn(specs, name) ? specs[name] : undefined;
      if (!spec) throw new NetlinkFormatError(`${this.#family.name}: there is no attribute ${at}`);
      if (!spec.multi) this.#writeOne(spec, value, writer, at);
      else if (!Array.isArray(value)) this.#refuse(at, "is not an array");
      else for (const [index, each] of value.entries()) this.#writeOne(spec, each, writer, `${at}[${index}]`);
    }
  }

  #writeOne(spec: AttributeSpec, value: unknown, writer: AttributeWriter, at: string): void {
    const { type, kind } = spec;
    switch (kind) {
      case "u8":
        writer.putU8(type, this.#toNumber(spec, value, at));
        return;
      case "u16":
        writer.putU16(type, this.#toNumber(spec, value, at));
        return;
      case "u32":
        writer.putU32(type, this.#toNumber(spec, value, at));
        return;
      case "u64":
        if (typeof value !== "bigint") this.#refuse(at, "is not a bigint");
        if (value < BigInt(spec.min ?? 0) || value > (spec.max === undefined ? MOST_U64 : BigInt(spec.max))) {
          this.#refuse(at, `of ${value} is out of range`);
        }
        writer.putU64(type, value);
        return;
      case "string":
        if (typeof value !== "string" || value.includes("\0")) this.#refuse(at, "is not a string without zero bytes");
        this.#checkBytes(spec, Buffer.byteLength(value), at);
        writer.put(type, Buffer.from(`${value}\0`));
        return;
      case "binary":
        if (!(value instanceof Uint8Array)) this.#refuse(at, "is not a Uint8Array");
        this.#checkBytes(spec, value.length, at);
        writer.put(type, value);
        return;
      case "flag":
        if (typeof value !== "boolean") this.#refuse(at, "is not a boolean");
        if (value) writer.put(type, new Uint8Array(0));
        return;
      case "nest":
        if (!isObject(value)) this.#refuse(at, "is not an object");
        writer.nest(type, () => this.#write(spec.of!, value, writer, at));
        return;
      case "list":
        if (!Array.isArray(value)) this.#refuse(at, "is not an array");
        writer.nest(type, () => {
          for (const [index, each] of value.entries()) {
            const entry = `${at}[${index}]`;
            if (!isObject(each)) this.#refuse(entry, "is not an object");
            writer.nest(index + 1, () => this.#write(spec.of!, each, writer, entry));
          }
        });
    }
  }

  #toNumber({ kind, values, min = 0, max }: AttributeSpec, value: unknown, at: string): number {
    if (values !== undefined) {
      const index = this.#family.enums[values]!.indexOf(value as string);
      if (index === -1) this.#refuse(at, `of ${String(value)} is none of ${values}`);
      return index;
    }
    const most = max ?? 2 ** (8 * NUMBER_BYTES[kind as keyof typeof NUMBER_BYTES]) - 1;
    if (typeof value !== "number" || !Number.isInteger(value)) this.#refuse(at, "is not an integer");
    if (value < min || value > most) this.#refuse(at, `of ${value} is not ${min} to ${most}`);
    return value;
  }

  #checkBytes({ minBytes = 0, maxBytes = Number.POSITIVE_INFINITY }: AttributeSpec, bytes: number, at: string): void {
    if (bytes < minBytes || bytes > maxBytes) this.#refuse(at, `of ${bytes} bytes is not ${minBytes} to ${maxBytes}`);
  }

  #readOne(spec: AttributeSpec, { payload }: RawAttribute, name: string): unknown {
    switch (spec.kind) {
      case "u8":
      case "u16":
      case "u32":
      case "u64":
        return this.#readNumber(spec, payload, name);
      case "string": {
        const end = payload.indexOf(0);
        return Buffer.from(payload.subarray(0, end === -1 ? undefined : end)).toString();
      }
      case "binary":
        // What was received stands in a buffer that is used again.
        return Uint8Array.from(payload);
      case "flag":
        return true;
      case "nest":
        return this.read(spec.of!, payload);
      case "list":
        return Array.from(readAttributes(payload), (entry) => this.read(spec.of!, entry.payload));
    }
  }

  #readNumber({ kind, values }: AttributeSpec, payload: Uint8Array, name: string): unknown {
    const bytes = kind === "u64" ? 8 : NUMBER_BYTES[kind as keyof typeof NUMBER_BYTES];
    if (payload.length !== bytes) throw new NetlinkFormatError(`${name} of ${payload.length} bytes is no ${kind}`);
    const view = viewOf(payload);
    if (kind === "u64") return view.getBigUint64(0, LITTLE_ENDIAN);
    const value =
      kind === "u8"
        ? view.getUint8(0)
        : kind === "u16"
          ? view.getUint16(0, LITTLE_ENDIAN)
          : view.getUint32(0, LITTLE_ENDIAN);
    return values === undefined ? value : this.#family.enums[values]![value];
  }

  #refuse(at: string, what: string): never {
    throw new NetlinkFormatError(`${this.#family.name}: ${at} ${what}`);
  }
}

function isObject(value: unknown): value is Values {
  return typeof value === "object" && value !== null;
}
