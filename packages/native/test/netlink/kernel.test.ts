import { existsSync, readdirSync, readFileSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  AttributeWriter,
  GenericFamily,
  HEADER_BYTES,
  NETLINK_GENERIC,
  NetlinkError,
  NetlinkSocket,
  NLCTRL,
  netlinkUnavailable,
} from "../../src/netlink/index.ts";
import { skipAll } from "../skip-all.ts";
import { NETDEV } from "./families.ts";
import { cannotUnshare, inNamespace } from "./namespace.ts";
import { NETLINK_ROUTE, RTM_GETLINK } from "./route.ts";

const ENTRY = new URL("../../src/netlink/index.ts", import.meta.url).href;
const GETFAMILY = NLCTRL.operations.getfamily.command;

function openDescriptors(): number {
  return readdirSync("/proc/self/fd").length;
}

/** A request for one family by hand. */
function getFamily(name: string): Uint8Array {
  const writer = new AttributeWriter(HEADER_BYTES + 4);
  writer.put(2, Buffer.from(`${name}\0`));
  writer.bytes[HEADER_BYTES] = GETFAMILY;
  return writer.bytes;
}

async function failureOf(promise: Promise<unknown>): Promise<NetlinkError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(NetlinkError);
  return error as NetlinkError;
}

describe("the kernel's own families", () => {
  skipAll(netlinkUnavailable);

  let nlctrl: GenericFamily<typeof NLCTRL>;
  beforeEach(async () => {
    nlctrl = await GenericFamily.open(NLCTRL);
  });
  afterEach(() => nlctrl.close());

  it("are listed by nlctrl, itself among them", async () => {
    const { entries, interrupted } = await nlctrl.dump("getfamily", {});
    expect(interrupted).toBe(false);
    expect(entries.length).toBeGreaterThanOrEqual(5);
    expect(entries.find(({ familyName }) => familyName === "nlctrl")).toMatchObject({
      familyId: 16,
      version: 2,
      mcastGroups: [{ name: "notify", id: 16 }],
    });
    expect(nlctrl.id).toBe(16);
  });

  it("answer many requests at once, each its own, and dumps between them", async () => {
    const { entries } = await nlctrl.dump("getfamily", {});
    const names = entries.map(({ familyName }) => familyName!);
    const asked = Array.from({ length: 500 }, (_, n) => names[n % names.length]!);
    const [answers, dumps] = await Promise.all([
      Promise.all(asked.map(async (familyName) => (await nlctrl.get("getfamily", { familyName })).familyName)),
      Promise.all(Array.from({ length: 10 }, () => nlctrl.dump("getfamily", {}))),
    ]);
    expect(answers).toEqual(asked);
    expect(new Set(dumps.map((dump) => dump.entries.length))).toEqual(new Set([entries.length]));
  });

  it("that do not exist are told by their absence", async () => {
    const error = await failureOf(GenericFamily.open({ ...NETDEV, name: "no-such-family" }));
    expect(error).toMatchObject({
      code: "ENOENT",
      message: "nlctrl getfamily: ENOENT, no such file or directory",
    });
  });

  it("of another version are not used", async () => {
    const error = await failureOf(GenericFamily.open({ ...NETDEV, version: 77 }));
    expect(error).toMatchObject({ code: "EPROTO", message: "family netdev has version 1, 77 is expected" });
  });

  it("have no groups but their own", () => {
    const listener = { onEvent: () => undefined, onResynchronise: () => undefined };
    expect(() => nlctrl.subscribe(["other" as "notify"], listener)).toThrow("family nlctrl has no group other");
    nlctrl.subscribe(["notify"], listener)();
  });

  it("say which attribute is missing", async () => {
    const netdev = await GenericFamily.open(NETDEV);
    const error = await failureOf(netdev.get("dev-get", {}));
    expect(error).toMatchObject({ code: "EINVAL", extendedAck: { missing: "ifindex", missingType: 1 } });
    expect(error.message).toContain("(attribute ifindex is missing)");
    const found = await netdev.get("dev-get", { ifindex: 1 });
    expect(found).toMatchObject({ ifindex: 1, xdpFeatures: expect.any(BigInt) });
    netdev.close();
  });

  it("say what is wrong with an attribute that breaks their policy", async () => {
    const writer = new AttributeWriter(HEADER_BYTES + 4);
    writer.put(2, Buffer.from("a-name-of-more-than-sixteen-bytes\0"));
    writer.bytes[HEADER_BYTES] = GETFAMILY;
    const socket = new NetlinkSocket({ protocol: NETLINK_GENERIC });
    const error = await failureOf(socket.request({ type: 16, name: "families", message: writer.bytes }));
    expect(error.code).toMatch(/^(EINVAL|ERANGE)$/);
    expect(error.extendedAck).toEqual({ message: expect.stringMatching(/policy|too long|range/i), offset: 20 });
    socket.close();
  });

  it("refuse what they do not know, and what is reserved", async () => {
    const unknown = await failureOf(nlctrl.request("newfamily", { familyName: "mine" }));
    expect(unknown.code).toBe("ENOTSUP");
    const socket = new NetlinkSocket({ protocol: NETLINK_GENERIC });
    const message = getFamily("nlctrl");
    expect((await failureOf(socket.request({ type: 0xfff, name: "nobody", message }))).code).toBe("ENOENT");
    socket.close();
  });

  it("end a request whose answer cannot be read, and no other", async () => {
    const socket = new NetlinkSocket({ protocol: NETLINK_GENERIC });
    const bad = socket.request({
      type: 16,
      name: "bad",
      message: getFamily("nlctrl"),
      onReply: () => {
        throw new Error("not what was expected");
      },
    });
    const good = socket.request({ type: 16, name: "good", message: getFamily("nlctrl") });
    await expect(bad).rejects.toThrow("not what was expected");
    await good;
    socket.close();
  });
});

describe("a socket", () => {
  skipAll(netlinkUnavailable);

  it("that is closed rejects what waits, and takes nothing more", async () => {
    const nlctrl = await GenericFamily.open(NLCTRL);
    const waiting = Array.from({ length: 100 }, () => failureOf(nlctrl.get("getfamily", { familyName: "nlctrl" })));
    waiting.push(failureOf(nlctrl.dump("getfamily", {})));
    nlctrl.close();
    nlctrl.close();
    expect(new Set((await Promise.all(waiting)).map(({ code }) => code))).toEqual(new Set(["ECANCELED"]));
    expect((await failureOf(nlctrl.dump("getfamily", {}))).code).toBe("ECANCELED");
    const listener = { onEvent: () => undefined, onResynchronise: () => undefined };
    expect(() => nlctrl.subscribe(["notify"], listener)).toThrow("closed");
  });

  it("may be closed while it is reading, and reads no further", async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    let replies = 0;
    const socket = new NetlinkSocket({ protocol: NETLINK_ROUTE });
    const asked = socket.dump({
      type: RTM_GETLINK,
      name: "links",
      message: new Uint8Array(HEADER_BYTES + 16),
      onReply: () => {
        replies++;
        socket.close();
        resolve();
      },
    });
    expect((await failureOf(asked)).code).toBe("ECANCELED");
    await promise;
    await new Promise((done) => setTimeout(done, 50));
    expect(replies).toBe(1);
  });

  it("leaves no file descriptor behind", async () => {
    const before = openDescriptors();
    for (let n = 0; n < 300; n++) {
      const nlctrl = await GenericFamily.open(NLCTRL);
      nlctrl.subscribe(["notify"], { onEvent: () => undefined, onResynchronise: () => undefined });
      nlctrl.close();
    }
    await expect(GenericFamily.open({ ...NETDEV, name: "no-such-family" })).rejects.toThrow();
    expect(openDescriptors()).toBe(before);
  });

  it("of a protocol that does not exist is an error", () => {
    expect(() => new NetlinkSocket({ protocol: 31 })).toThrow(
      expect.objectContaining({ name: "NetlinkError", code: "EPROTONOSUPPORT" }),
    );
  });

  it("of a thread is its own, and ends with it however the thread ends", async () => {
    const before = openDescriptors();
    const program = `
      import { parentPort } from "node:worker_threads";
      const { GenericFamily, NLCTRL } = await import(${JSON.stringify(ENTRY)});
      const listener = { onEvent: () => undefined, onResynchronise: () => undefined };
      const families = await Promise.all(Array.from({ length: 20 }, () => GenericFamily.open(NLCTRL)));
      for (const family of families) family.subscribe(["notify"], listener);
      const { familyId } = await families[0].get("getfamily", { familyName: "nlctrl" });
      // Some have requests on the way when the thread ends.
      for (const family of families) family.dump("getfamily", {}).catch(() => undefined);
      parentPort.postMessage(familyId);`;
    const rounds = Array.from({ length: 4 }, async (_, round) => {
      const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(program)}`), {
        execArgv: ["--conditions=source"],
      });
      const answer = await new Promise((resolve, reject) => {
        worker.once("message", resolve).once("error", reject);
      });
      if (round % 2 === 0) await new Promise((resolve) => setTimeout(resolve, 20));
      await worker.terminate();
      return answer;
    });
    expect(await Promise.all(rounds)).toEqual([16, 16, 16, 16]);
    expect(openDescriptors()).toBe(before);
  });
});

describe("in a network namespace of its own", () => {
  skipAll(netlinkUnavailable ?? cannotUnshare);

  it("settings are changed, events of them arrive, and wrong ones are refused by name", async () => {
    const { events, refusals } = await inNamespace<{ events: unknown[]; refusals: Record<string, object> }>(
      "ethtool-events",
    );
    expect(events).toEqual([
      {
        operation: "channels-ntf",
        attributes: expect.objectContaining({
          header: { devIndex: expect.any(Number), devName: "veth-a" },
          txCount: 2,
          txMax: 4,
        }),
      },
    ]);
    expect(refusals.tooMany).toMatchObject({
      isTyped: true,
      code: "EINVAL",
      extendedAck: { attribute: "txCount", offset: expect.any(Number), message: expect.stringContaining("maximum") },
    });
    expect(refusals.nested).toMatchObject({ isTyped: true, extendedAck: { attribute: "header.devName" } });
  });

  it("a receive overrun is reported, and the socket goes on", async () => {
    const { lost, after } = await inNamespace<{ lost: string[]; after: number }>("overrun");
    expect(lost).toContain("overrun");
    expect(after).toBeGreaterThanOrEqual(1);
  });

  it("a list that changed while it was read says so, the next one not", async () => {
    const { quiet, changed, next } =
      await inNamespace<Record<string, { interrupted: boolean; links: number }>>("interrupted-dump");
    expect(quiet).toEqual({ interrupted: false, links: 121 });
    expect(changed).toMatchObject({ interrupted: true });
    expect(next).toEqual({ interrupted: false, links: 119 });
  });
});

describe("where the add-on is", () => {
  it("netlink is there, or says why not", () => {
    const isBuilt = existsSync(new URL("../../build/isthmus_netlink.node", import.meta.url));
    const isOff = process.env.ISTHMUS_NATIVE === "off";
    expect(netlinkUnavailable === undefined).toBe(isBuilt && !isOff);
    if (netlinkUnavailable === undefined)
      expect(readFileSync("/proc/self/maps", "utf8")).toContain("isthmus_netlink.node");
    else expect(() => new NetlinkSocket({ protocol: NETLINK_GENERIC })).toThrow(netlinkUnavailable);
  });
});
