/**
 * A generic-netlink family as the codec reads it; kernel/uapi makes one of each specification. Names are camel case;
 * the type of each operation's messages follows from it, so it must be declared `as const satisfies FamilySpec`.
 */
export interface FamilySpec {
  readonly name: string;
  readonly version: number;
  /** Multicast groups. */
  readonly groups: readonly string[];
  /** Each with its attribute set; notifications are operations, too. */
  readonly operations: { readonly [name: string]: { readonly command: number; readonly attributes: string } };
  /** The names of values from 0 on. */
  readonly enums: { readonly [name: string]: readonly string[] };
  readonly attributes: { readonly [set: string]: AttributeSet };
}

export type AttributeSet = { readonly [name: string]: AttributeSpec };

export interface AttributeSpec {
  readonly type: number;
  /**
   * - `string`: with a zero byte at its end
   * - `nest`: attributes of the set `of`
   * - `list`: a nest of such nests, whose own types count for nothing
   */
  readonly kind: "u8" | "u16" | "u32" | "u64" | "string" | "binary" | "flag" | "nest" | "list";
  /** The attribute may stand several times, and is an array. */
  readonly multi?: true;
  /** Of a number that stands for names: the enum. */
  readonly values?: string;
  /** Of a nest or list: the attribute set. */
  readonly of?: string;
  /** Least and greatest value. */
  readonly min?: number;
  readonly max?: number;
  /** Least and greatest number of bytes. */
  readonly minBytes?: number;
  readonly maxBytes?: number;
}

type Single<F extends FamilySpec, A extends AttributeSpec> = A extends { values: infer E extends string }
  ? F["enums"][E][number]
  : A extends { kind: "nest"; of: infer S extends string }
    ? Attributes<F, S>
    : A extends { kind: "list"; of: infer S extends string }
      ? Attributes<F, S>[]
      : A["kind"] extends "u64"
        ? bigint
        : A["kind"] extends "string"
          ? string
          : A["kind"] extends "binary"
            ? Uint8Array
            : A["kind"] extends "flag"
              ? boolean
              : number;

/** The values of an attribute set; each may be absent. */
export type Attributes<F extends FamilySpec, S extends string> = {
  -readonly [K in keyof F["attributes"][S]]?:
    | (F["attributes"][S][K] extends infer A extends AttributeSpec
        ? A extends { multi: true }
          ? Single<F, A>[]
          : Single<F, A>
        : never)
    | undefined;
};

export type OperationName<F extends FamilySpec> = keyof F["operations"] & string;

/** The values of an operation's messages. */
export type OperationAttributes<F extends FamilySpec, O extends OperationName<F>> = Attributes<
  F,
  F["operations"][O]["attributes"]
>;
