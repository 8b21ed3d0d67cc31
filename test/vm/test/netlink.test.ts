import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { AttributeCodec, IST_FAMILY, IST_MAX_CELLS, IST_MAX_SOURCES } from "@isthmus/native/netlink";
import { kernelsUnderTest, type VirtualMachine } from "@isthmus/vm";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Attribute, encode, IST_SETS, numberBytes, numberSize, specified } from "./attributes.ts";
import { bootRelay, type RelayHosts, SOURCES } from "./relay-hosts.ts";

/** Of netlink and generic netlink; the kernel's offsets count from there. */
const HEADERS_BYTES = 20;

const RANDOM_SEED = 20_261_121;
const RANDOM_REQUESTS = process.env.ISTHMUS_FULL === "1" ? 10_000 : 1000;
/** Most random requests are about one of these. */
const RANDOM_IDS = [1n, 2n, 3n, 4n];

const { operations } = IST_FAMILY;
type Operation = keyof typeof operations;
const codec = new AttributeCodec(IST_FAMILY);

interface Request {
  readonly command: number;
  readonly attributes: readonly Attribute[];
  /** Stand behind the attributes. */
  readonly garbage?: Uint8Array;
}

interface Outcome {
  /** "ok", or the error in words. */
  readonly error: string;
  /** The kernel's. */
  readonly text: string;
  /** The attribute at which it points, by name. */
  readonly attribute: string | undefined;
  readonly reply: Record<string, unknown> | undefined;
}

function bytesOf({ attributes, garbage }: Request): Buffer {
  return Buffer.concat([encode(attributes), garbage ?? Buffer.alloc(0)]);
}

function request(operation: Operation, values: object): Request {
  return { command: operations[operation].command, attributes: specified(operations[operation].attributes, values) };
}

function setOf(command: number): string {
  return Object.values(operations).find((each) => each.command === command)?.attributes ?? "alloc";
}

/** A value that is wrong by itself, deep in a request that is right otherwise. */
interface WrongValue {
  readonly what: string;
  /** As the codec names it: `sources.source[0].side`. */
  readonly name: string;
  readonly request: Request;
}

const ALLOC_ID = { type: IST_SETS.alloc!.id!.type, payload: numberBytes(IST_SETS.alloc!.id!, 1000n) };

/** Everything of some attributes of a set that their specification does not allow. */
function* wrongValues(
  set: string,
  names: readonly string[],
  path = "",
): Generator<Omit<WrongValue, "request"> & { attribute: Attribute }> {
  for (const key of names) {
    const spec = IST_SETS[set]![key]!;
    const { type } = spec;
    const name = `${path}${key}${spec.multi ? "[0]" : ""}`;
    if (spec.kind === "nest") {
      yield { what: "no nest", name, attribute: { type, payload: [], isNest: false } };
      yield {
        what: "an unknown attribute in it",
        name: `${name}.type 99`,
        attribute: { type, payload: [{ type: 99, payload: new Uint8Array(4) }] },
      };
      for (const inner of wrongValues(spec.of!, Object.keys(IST_SETS[spec.of!]!), `${name}.`)) {
        yield { ...inner, attribute: { type, payload: [inner.attribute] } };
      }
      continue;
    }
    const size = numberSize(spec);
    const sizes = size === undefined ? [spec.minBytes! - 1, spec.maxBytes! + 1] : [0, size - 1, size + 1];
    for (const bytes of new Set(sizes)) {
      yield { what: `${bytes} bytes`, name, attribute: { type, payload: new Uint8Array(bytes) } };
    }
    yield { what: "a nest", name, attribute: { type, payload: new Uint8Array(size ?? 4), isNest: true } };
    const most = spec.values ? IST_FAMILY.enums[spec.values as "mode"].length - 1 : spec.max;
    if (most !== undefined)
      yield { what: `${most + 1}`, name, attribute: { type, payload: numberBytes(spec, BigInt(most + 1)) } };
    if (spec.min)
      yield { what: `${spec.min - 1}`, name, attribute: { type, payload: numberBytes(spec, BigInt(spec.min - 1)) } };
  }
}

function wrongRequests(operation: Operation, names: readonly string[]): WrongValue[] {
  const { command, attributes: set } = operations[operation];
  return Array.from(wrongValues(set, names), ({ attribute, ...rest }) => ({
    ...rest,
    request: { command, attributes: attribute.type === ALLOC_ID.type ? [attribute] : [ALLOC_ID, attribute] },
  }));
}

const V4 = Uint8Array.of(10, 0, 0, 1);
const MAPPED = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 1, 2, 3, 4);
const PASSIVE = { number: 0, port0: 50, port1: 51 };

/** What is wrong with a request as a whole: the text, and the attribute where there is one. */
const REFUSED: readonly [operation: Operation, values: object, text: string, attribute?: string][] = [
  ["alloc-new", { lifetime: 0n }, "id: required"],
  ["alloc-set", { lifetime: 0n }, "id: required"],
  ["alloc-del", {}, "id: required"],
  ["alloc-get", {}, "id: required"],
  ["splice-get", {}, "id: required"],
  ["splice-del", {}, "id: required"],
  ["alloc-new", { id: 999n }, "id: the allocation is there already", "id"],
  ["alloc-set", { id: 1000n, lifetime: 5n }, "id: there is no such allocation", "id"],
  ["alloc-get", { id: 1000n }, "id: there is no such allocation", "id"],
  ["alloc-del", { id: 1000n }, "id: there is no such allocation", "id"],
  ["splice-get", { id: 99_999n }, "id: there is no such splice", "id"],
  ["splice-del", { id: 99_999n }, "id: there is no such splice", "id"],
  [
    "alloc-new",
    { id: 1000n, sources: { source: [{ side: 0 }] } },
    "source: side and address are required",
    "sources.source[0]",
  ],
  [
    "alloc-new",
    { id: 1000n, sources: { source: [{ address: V4 }] } },
    "source: side and address are required",
    "sources.source[0]",
  ],
  [
    "alloc-new",
    { id: 1000n, sources: { source: [{ side: 0, address: V4, prefix: 33 }] } },
    "prefix: longer than the address",
    "sources.source[0].prefix",
  ],
  [
    "alloc-new",
    {
      id: 1000n,
      sources: {
        source: [
          { side: 1, address: V4 },
          { side: 0, address: new Uint8Array(5) },
        ],
      },
    },
    "address: 4 or 16 bytes are expected",
    "sources.source[1].address",
  ],
  [
    "alloc-new",
    { id: 1000n, sources: { source: [{ side: 0, address: MAPPED }] } },
    "address: IPv4 in IPv6 is to be given as 4 bytes",
    "sources.source[0].address",
  ],
  [
    "alloc-new",
    { id: 1000n, sources: { source: Array.from({ length: IST_MAX_SOURCES + 1 }, () => ({ side: 0, address: V4 })) } },
    "sources: too many",
    "sources",
  ],
  ["alloc-new", { id: 1000n, cell: [{ port0: 50, port1: 51 }] }, "cell: number is required", "cell[0]"],
  [
    "alloc-new",
    { id: 1000n, cell: [{ number: 0, port0: 0, port1: 5 }] },
    "cell: port0 and port1 are required",
    "cell[0]",
  ],
  ["alloc-new", { id: 1000n, cell: [{ number: 0, port0: 5, port1: 5 }] }, "port1: the same as port0", "cell[0].port1"],
  [
    "alloc-new",
    { id: 1000n, cell: [PASSIVE, { number: 0, port0: 52, port1: 53 }] },
    "cell: the number is there twice",
    "cell[1]",
  ],
  [
    "alloc-new",
    { id: 1000n, cell: [PASSIVE, { number: 1, port0: 52, port1: 51 }] },
    "port1: another cell has it",
    "cell[1].port1",
  ],
  [
    "alloc-new",
    { id: 1000n, cell: [{ number: 0, port0: 61, port1: 62 }] },
    "port0: another cell has it",
    "cell[0].port0",
  ],
  [
    "alloc-new",
    { id: 1000n, cell: [{ number: 0, mode: "pure", port0: 5, port1: 6, remotePort0: 7, remotePort1: 8 }] },
    "cell: in a pure cell a side's port is the other's remote-port",
    "cell[0]",
  ],
  ["alloc-new", { id: 1000n, cell: [{ number: 0, mode: "pure" }] }, "cell: port0 or port1 is required", "cell[0]"],
  [
    "alloc-new",
    { id: 1000n, cell: [{ ...PASSIVE, group: V4, groupPort: 9 }] },
    "group: for a fan-out alone, and with group-port",
    "cell[0].group",
  ],
  [
    "alloc-new",
    { id: 1000n, cell: [{ ...PASSIVE, mode: "fanout", group: V4 }] },
    "group: for a fan-out alone, and with group-port",
    "cell[0].group",
  ],
  [
    "alloc-new",
    { id: 1000n, cell: [{ ...PASSIVE, mode: "fanout", group: new Uint8Array(6), groupPort: 9 }] },
    "address: 4 or 16 bytes are expected",
    "cell[0].group",
  ],
  [
    "alloc-new",
    {
      id: 1000n,
      cell: Array.from({ length: IST_MAX_CELLS + 1 }, (_, n) => ({
        number: n,
        port0: 100 + 2 * n,
        port1: 101 + 2 * n,
      })),
    },
    "cell: too many",
    `cell[${IST_MAX_CELLS}]`,
  ],
  [
    "alloc-set",
    { id: 999n, cell: [{ number: 0, port0: 70 }] },
    "port: can be set only where a pure cell has none",
    "cell[0].port0",
  ],
];

describe.each(kernelsUnderTest())("requests to ist_splice on $version", (kernel) => {
  let vm: VirtualMachine;
  let hosts: RelayHosts;
  let files = 0;

  beforeAll(async () => {
    ({ vm, hosts } = await bootRelay(kernel));
    await hosts.istctl(`new 999 ${SOURCES} cell 0 passive 60 61`);
  });

  afterAll(async () => {
    await vm?.stop();
  });

  /** Sends requests one after the other. */
  async function tell(requests: readonly Request[]): Promise<Outcome[]> {
    const file = `requests-${++files}`;
    const lines = requests.map((each) => `raw ${each.command} ${bytesOf(each).toString("hex") || "."}`);
    writeFileSync(join(vm.share, file), `${lines.join("\n")}\n`);
    const said = (await hosts.istctl(`tell ${vm.guestShare}/${file}`)).trim().split("\n");
    let reply: Outcome["reply"];
    const outcomes: Outcome[] = [];
    for (const line of said) {
      const { command, attributes } = requests[outcomes.length]!;
      if (line.startsWith("reply ")) {
        reply = codec.read(setOf(command), Buffer.from(line.slice(6), "hex"));
        continue;
      }
      const [, error = line, text = "", offset] = /^(.*?): (.*) @(\d+|-)$/.exec(line) ?? [];
      const attribute =
        offset === undefined || offset === "-"
          ? undefined
          : codec.nameAt(setOf(command), encode(attributes), Number(offset) - HEADERS_BYTES);
      outcomes.push({ error, text, attribute, reply });
      reply = undefined;
    }
    expect(outcomes).toHaveLength(requests.length);
    return outcomes;
  }

  it("are refused for every wrong type, length and range, and the attribute is named", async () => {
    const wrong = [
      ...wrongRequests("alloc-new", ["id", "lifetime", "sources", "limits", "timeouts", "cell"]),
      ...wrongRequests("alloc-set", ["removeCell"]),
      ...wrongRequests("alloc-del", ["id", "reason"]),
      ...wrongRequests("alloc-get", ["id"]),
      ...wrongRequests("splice-get", ["id"]),
      ...wrongRequests("splice-del", ["reason"]),
    ];
    expect(wrong.length).toBeGreaterThan(150);
    const outcomes = await tell(wrong.map((each) => each.request));
    const seen = outcomes.map(({ error, text, attribute }, n) => ({
      what: wrong[n]!.what,
      attribute,
      isRefused: error !== "ok",
      hasText: text !== "",
    }));
    expect(seen).toEqual(wrong.map(({ what, name }) => ({ what, attribute: name, isRefused: true, hasText: true })));
    expect(await hosts.istctl("allocs")).not.toContain("id=1000 ");
  });

  it("are refused when they make no sense, in words and at the attribute", async () => {
    const outcomes = await tell(REFUSED.map(([operation, values]) => request(operation, values)));
    expect(outcomes.map(({ text, attribute }) => [text, attribute])).toEqual(
      REFUSED.map(([, , text, attribute]) => [text, attribute]),
    );
    expect(await hosts.istctl("allocs")).not.toContain("id=1000 ");
  });

  it("are refused when they are not even attributes", async () => {
    const { command } = operations["alloc-new"];
    const outcomes = await tell([
      { command, attributes: [], garbage: Buffer.from("00", "hex") },
      { command, attributes: [ALLOC_ID], garbage: Buffer.from("0500", "hex") },
      { command, attributes: [{ ...ALLOC_ID, length: 3 }] },
      { command, attributes: [{ ...ALLOC_ID, length: 400 }] },
      { command, attributes: [ALLOC_ID, { type: 0x1fff, payload: new Uint8Array(4) }] },
      { command, attributes: [ALLOC_ID, { type: 0, payload: new Uint8Array(4) }] },
      { command: 0, attributes: [] },
      { command: 8, attributes: [] },
      { command: 99, attributes: [] },
    ]);
    expect(outcomes.map(({ error }) => error)).not.toContain("ok");
    expect(outcomes.slice(0, 6).map(({ text }) => text)).not.toContain("");
    expect(await hosts.istctl("allocs")).not.toContain("id=1000 ");
  });

  it("are done as a whole or not at all", async () => {
    const state = async (): Promise<unknown> => {
      const [{ reply } = { reply: undefined }] = await tell([request("alloc-get", { id: 998n })]);
      return { ...reply, age: 0 };
    };
    const learning = { mode: "pure", port0: 80, remotePort1: 80 };
    await tell([
      request("alloc-new", {
        id: 998n,
        cell: [
          { number: 0, ...learning },
          { ...PASSIVE, number: 1 },
        ],
      }),
    ]);
    const before = await state();
    const outcomes = await tell(
      [
        { port0: 50, port1: 51, number: 9 },
        { number: 1, port0: 52 },
      ].map((wrong) =>
        request("alloc-set", {
          id: 998n,
          sources: { source: [{ side: 0, address: V4 }] },
          limits: { splices: 7, rate: 8n },
          timeouts: { half: 99 },
          lifetime: 3_600_000n,
          cell: [{ number: 5, port0: 82, port1: 83 }, { number: 0, port1: 84 }, wrong],
          removeCell: [1],
        }),
      ),
    );
    expect(outcomes.map(({ error }) => error)).not.toContain("ok");
    expect(await state()).toEqual(before);
    const [{ error } = { error: "" }] = await tell([
      request("alloc-set", { id: 998n, cell: [{ number: 0, port1: 84 }] }),
    ]);
    expect(error).toBe("ok");
    await hosts.istctl("del 998");
  });

  it("are refused to whoever may not administer the namespace, except for the totals", async () => {
    const { output } = await vm.run(`
      for words in "new 1" "set 1" "del 1" "kill 1" allocs splices "raw 4 0c0001000100000000000000" "events 1" stats; do
        ip netns exec i setpriv --bounding-set -all --inh-caps -all --reuid 65534 --clear-groups \\
          ${vm.guestShare}/istctl $words 2>&1
      done
    `);
    const said = output.trim().split("\n");
    expect(said.slice(0, -1)).toEqual(Array(8).fill(expect.stringContaining("Operation not permitted")));
    expect(said.at(-1)).toMatch(/^stats /);
  });

  it("reach their own namespace alone", async () => {
    const { id } = await hosts.cell();
    expect(await hosts.istctl("allocs")).toContain(`id=${id} `);
    const other = await vm.run(`
      ip netns exec b ${vm.guestShare}/istctl allocs
      ip netns exec b ${vm.guestShare}/istctl del ${id}
      ip netns exec b ${vm.guestShare}/istctl new ${id} && ip netns exec b ${vm.guestShare}/istctl del ${id}
    `);
    expect(other.output).toBe("istctl: No such file or directory: id: there is no such allocation (at an attribute)\n");
    expect(await hosts.istctl("allocs")).toContain(`id=${id} `);
  });

  it("are answered with more than fits into one message, complete", async () => {
    const cells = Array.from({ length: 250 }, (_, n) => `cell ${n} passive ${30_000 + 2 * n} ${30_001 + 2 * n}`);
    for (let n = 0; n < 3; n++) {
      const own = cells.slice(80 * n, 80 * (n + 1)).join(" ");
      await hosts.istctl(`new ${5000 + n} ${SOURCES} ${own}`);
    }
    await hosts.istctl(`set 5000 ${cells.slice(240).join(" ")}`);
    const dump = (await hosts.istctl("allocs")).split("\n");
    const shown = (id: number): number =>
      dump
        .filter((line) => line.startsWith(`alloc id=${id} `))
        .reduce((sum, line) => sum + Number(/cells=(\d+)/.exec(line)![1]), 0);
    expect([shown(5000), shown(5001), shown(5002)]).toEqual([90, 80, 80]);
    for (let n = 0; n < 3; n++) await hosts.istctl(`del ${5000 + n}`);
  });

  it("may be anything: what is refused changes nothing, what is done is as it was asked for", async () => {
    const requests = fc.sample(anyRequest(), { numRuns: RANDOM_REQUESTS, seed: RANDOM_SEED });
    // Behind each one stands a look at all that it may have changed.
    const looks = RANDOM_IDS.map((id) => request("alloc-get", { id }));
    const outcomes = await tell(requests.flatMap((each) => [each, ...looks]));
    let before: unknown[] = RANDOM_IDS.map(() => undefined);
    let done = 0;
    for (const [n, each] of requests.entries()) {
      const [outcome, ...seen] = outcomes.slice(n * (1 + looks.length), (n + 1) * (1 + looks.length));
      const after = seen.map(({ reply }) => reply && { ...reply, age: 0n, lifetime: 0n });
      const about = `request ${n}: ${each.command} ${bytesOf(each).toString("hex")} ${JSON.stringify(outcome, bigText)}`;
      const isChange = each.command <= operations["alloc-del"].command;
      if (outcome!.error !== "ok" || !isChange) expect(after, about).toEqual(before);
      else {
        const wanted = codec.read("alloc", bytesOf(each));
        const index = RANDOM_IDS.indexOf(wanted.id as bigint);
        if (index >= 0) {
          checkDone(each.command, wanted, before[index] as object | undefined, after[index], about);
          expect(after.with(index, undefined), about).toEqual(before.with(index, undefined));
        }
        done++;
      }
      if (outcome!.error !== "ok" && each.command >= 1 && each.command <= 7) {
        expect(outcome!.text, about).not.toBe("");
      }
      before = after;
    }
    // The requests are worth something only when many are done, too.
    expect(done).toBeGreaterThan(RANDOM_REQUESTS / 20);
    const ids = (await hosts.istctl("allocs")).matchAll(/ id=(\d+) /g);
    await vm.check(
      Array.from(
        new Set(Array.from(ids, ([, id]) => id)),
        (id) => `ip netns exec i ${vm.guestShare}/istctl del ${id}`,
      ).join("\n"),
    );
    expect(await hosts.stats()).toMatchObject({ allocs: "0", cells: "0", halves: "0", splices: "0" });
    await hosts.transfer((await hosts.cell()).ports, { bytes: 200_000 });
  });

  it("leave no complaint of the kernel behind", async () => {
    expect(await hosts.unload()).toEqual([]);
  });
});

function bigText(_: string, each: unknown): unknown {
  return typeof each === "bigint" ? each.toString() : each;
}

/** What a request that was done must have brought about. */
function checkDone(
  command: number,
  wanted: Record<string, unknown>,
  before: object | undefined,
  after: Record<string, unknown> | undefined,
  about: string,
): void {
  if (command === operations["alloc-del"].command) {
    expect(before, about).toBeDefined();
    expect(after, about).toBeUndefined();
    return;
  }
  expect(before === undefined, about).toBe(command === operations["alloc-new"].command);
  expect(after, about).toMatchObject({ limits: wanted.limits ?? {}, timeouts: wanted.timeouts ?? {} });
  const numbers = ((after!.cell ?? []) as { number: number }[]).map((cell) => cell.number);
  const removed = (wanted.removeCell ?? []) as number[];
  for (const { number } of (wanted.cell ?? []) as { number: number }[]) {
    expect(numbers.includes(number), about).toBe(!removed.includes(number));
  }
}

/** Requests of which some are right, many nearly so, and a few nothing at all. */
function anyRequest(): fc.Arbitrary<Request> {
  const commands = [1, 1, 1, 2, 2, 2, 2, 3, 4, 5, 6, 7];
  return fc.oneof(
    { weight: 20, arbitrary: fc.constantFrom(...commands).chain((command) => requestOf(command)) },
    {
      weight: 1,
      arbitrary: fc.record({
        command: fc.integer({ min: 0, max: 255 }),
        attributes: fc.constant([]),
        garbage: fc.uint8Array({ maxLength: 64 }),
      }),
    },
  );
}

function requestOf(command: number): fc.Arbitrary<Request> {
  const names = [
    [],
    ["lifetime", "sources", "limits", "timeouts", "cell"],
    ["lifetime", "sources", "limits", "timeouts", "cell", "removeCell"],
    ["reason"],
    [],
    ["alloc"],
    ["reason"],
    [],
  ][command]!;
  const id = IST_SETS[setOf(command)]!.id;
  const first = id
    ? fc.constantFrom(...RANDOM_IDS).map((number) => [{ type: id.type, payload: numberBytes(id, number) }])
    : fc.constant([]);
  const rest = names.length > 0 ? fc.array(anyAttribute(setOf(command), names), { maxLength: 4 }) : fc.constant([]);
  return fc.tuple(first, rest).map(([a, b]) => ({ command, attributes: [...a, ...b] }));
}

/** One of some attributes of a set; now and then it is broken, or another one. */
function anyAttribute(set: string, names: readonly string[]): fc.Arbitrary<Attribute> {
  const right = fc.constantFrom(...names).chain((name) => rightAttribute(set, name));
  const payload = fc.uint8Array({ maxLength: 20 });
  return fc.oneof(
    { weight: 60, arbitrary: right },
    { weight: 1, arbitrary: fc.record({ type: fc.integer({ min: 0, max: 0x3fff }), payload }) },
    { weight: 1, arbitrary: fc.tuple(right, payload).map(([{ type }, bytes]) => ({ type, payload: bytes })) },
    { weight: 1, arbitrary: right.map((each) => ({ ...each, isNest: each.payload instanceof Uint8Array })) },
    {
      weight: 1,
      arbitrary: fc.tuple(right, fc.nat(70_000)).map(([each, length]) => ({ ...each, length: length % 65_536 })),
    },
  );
}

function rightAttribute(set: string, name: string): fc.Arbitrary<Attribute> {
  const spec = IST_SETS[set]![name]!;
  const { type } = spec;
  if (spec.kind === "nest") {
    const inner = Object.keys(IST_SETS[spec.of!]!);
    // A cell or source without its number or side is refused before anything else of it is looked at.
    const needed = { cell: ["number", "port0", "port1"], source: ["side", "address"] }[spec.of!] ?? [];
    return fc
      .tuple(
        fc.tuple(...needed.map((each) => rightAttribute(spec.of!, each))),
        fc.array(anyAttribute(spec.of!, inner), { maxLength: 3 }),
      )
      .map(([must, may]) => ({ type, payload: [...must, ...may] }));
  }
  if (spec.kind === "binary") {
    const bytes = fc
      .constantFrom(4, 4, 16, 16, 8)
      .chain((length) => fc.uint8Array({ minLength: length, maxLength: length }));
    return bytes.map((payload) => ({ type, payload }));
  }
  return numberFor(name, spec.min ?? 0, spec.values ? 2 : spec.max).map((number) => ({
    type,
    payload: numberBytes(spec, number),
  }));
}

function numberFor(name: string, min: number, max = 2 ** 31): fc.Arbitrary<bigint> {
  // Allocations that end in the middle of the test would look like a mistake of the module's.
  if (name === "lifetime") return fc.constantFrom(0n, 3_600_000n, 2n ** 64n - 1n);
  // Few, so that they meet.
  if (/port/i.test(name)) return fc.bigInt(0n, 40n);
  if (name === "number" || name === "removeCell") return fc.bigInt(0n, 6n);
  return fc.oneof(
    { weight: 20, arbitrary: fc.bigInt(BigInt(min), BigInt(max)) },
    { weight: 1, arbitrary: fc.constantFrom(0n, BigInt(max) + 1n, 2n ** 64n - 1n) },
  );
}
