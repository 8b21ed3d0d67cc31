import { endianness } from "node:os";
import { readAskRequest, writeAskReply } from "@isthmus/protocol";
import fc from "fast-check";
import { expect, it } from "vitest";

const LITTLE_ENDIAN = endianness() === "LE";

function request(version: number, what: number, name: Buffer): Buffer {
  const bytes = Buffer.alloc(28);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  view.setUint8(0, version);
  view.setUint8(1, what);
  view.setUint32(4, 0x01020304, LITTLE_ENDIAN);
  view.setUint32(8, 4711, LITTLE_ENDIAN);
  name.copy(bytes, 12);
  return bytes;
}

it("a question is read as it was asked", () => {
  expect(readAskRequest(request(1, 1, Buffer.from("rtorrent")))).toEqual({
    what: "bind",
    number: 0x01020304,
    pid: 4711,
    program: "rtorrent",
  });
  expect(readAskRequest(request(1, 2, Buffer.from("sixteen bytes ok")))).toMatchObject({
    what: "release",
    program: "sixteen bytes ok",
  });
  expect(readAskRequest(request(1, 3, Buffer.from("sh")))).toMatchObject({ what: "cover", program: "sh" });
});

it("a name cannot steer a terminal", () => {
  expect(readAskRequest(request(1, 1, Buffer.from("a\x1b[2Jb\0hidden")))?.program).toBe("a?[2Jb");
  expect(readAskRequest(request(1, 1, Buffer.from([0xff, 0x9b, 0x41])))?.program).toBe("??A");
});

it.each([
  ["another version", request(2, 1, Buffer.alloc(0))],
  ["an unknown word", request(1, 4, Buffer.alloc(0))],
  ["too short", request(1, 1, Buffer.alloc(0)).subarray(0, 27)],
  ["too long", Buffer.concat([request(1, 1, Buffer.alloc(0)), Buffer.alloc(1)])],
  ["nothing", Buffer.alloc(0)],
])("%s is no question", (_, bytes) => {
  expect(readAskRequest(bytes)).toBeUndefined();
});

it("whatever comes, it is read or refused", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      const read = readAskRequest(bytes);
      if (read) expect(read.program).toMatch(/^[ -~]{0,16}$/);
    }),
  );
});

it("an answer carries the number of its question", () => {
  const bytes = writeAskReply(0x01020304, "failed");
  expect([bytes.length, bytes[0], bytes[1]]).toEqual([8, 1, 2]);
  expect(new DataView(bytes.buffer).getUint32(4, LITTLE_ENDIAN)).toBe(0x01020304);
});
