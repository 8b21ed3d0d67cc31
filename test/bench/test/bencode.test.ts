import { expect, test } from "vitest";
import { bencode, decodeTexts } from "../src/relay/bencode.ts";

test("lengths are those of bytes", () => {
  expect(bencode({ command: "offer", direction: ["near", "fär"] })).toBe("d7:command5:offer9:directionl4:near4:färee");
});

test("texts are found beside numbers, lists and dictionaries", () => {
  const bytes = Buffer.from("d7:createdi-1e3:sdp5:v=0\r\n4:tagsl1:ad1:bi2eee6:result3:fäe");
  expect(decodeTexts(bytes)).toEqual(
    new Map([
      ["sdp", "v=0\r\n"],
      ["result", "fä"],
    ]),
  );
});

test.each(["", "4:pong", "d6:result", "d6:result9:ok", "d6:resulti5", "d6:result2:ok"])("%j is refused", (text) => {
  expect(() => decodeTexts(Buffer.from(text))).toThrow();
});
