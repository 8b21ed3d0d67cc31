import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { CipherState, HandshakeState, IX, type Pattern, x25519KeyPairFromRaw } from "../src/keys/noise.ts";

/** Every pattern without pre-messages, so that the framework is tested and not one pattern. */
const PATTERNS: Record<string, Pattern> = {
  NN: [["e"], ["e", "ee"]],
  NX: [["e"], ["e", "ee", "s", "es"]],
  XN: [["e"], ["e", "ee"], ["s", "se"]],
  XX: [["e"], ["e", "ee", "s", "es"], ["s", "se"]],
  IN: [
    ["e", "s"],
    ["e", "ee", "se"],
  ],
  IX,
};

interface Vector {
  name: string;
  prologue: string;
  initStatic: string;
  respStatic: string;
  initEphemeral: string;
  respEphemeral: string;
  messages: { payload: string; ciphertext: string }[];
}

const { vectors } = JSON.parse(readFileSync(new URL("../../../test/vectors/noise.json", import.meta.url), "utf8")) as {
  vectors: Vector[];
};
const hex = (text: string): Buffer => Buffer.from(text, "hex");
const keys = (text: string) => x25519KeyPairFromRaw(text === "" ? Buffer.alloc(32, 1) : hex(text));

describe("Noise framework against published vectors", () => {
  it("has vectors for each pattern", () => {
    expect([...new Set(vectors.map(({ name }) => name))].sort()).toEqual(Object.keys(PATTERNS).sort());
  });

  for (const [index, vector] of vectors.entries()) {
    it(`${vector.name}, vector ${index}`, () => {
      const side = (role: "initiator" | "responder") =>
        new HandshakeState({
          name: vector.name,
          pattern: PATTERNS[vector.name]!,
          role,
          prologue: hex(vector.prologue),
          staticKey: keys(role === "initiator" ? vector.initStatic : vector.respStatic),
          ephemeral: keys(role === "initiator" ? vector.initEphemeral : vector.respEphemeral),
        });
      const initiator = side("initiator");
      const responder = side("responder");
      const handshakeMessages = PATTERNS[vector.name]!.length;
      for (const [number, { payload, ciphertext }] of vector.messages.slice(0, handshakeMessages).entries()) {
        const [writer, reader] = number % 2 === 0 ? [initiator, responder] : [responder, initiator];
        const message = writer.write(hex(payload));
        expect(message.toString("hex")).toBe(ciphertext);
        expect(reader.read(message).payload.toString("hex")).toBe(payload);
      }
      const result = initiator.finish();
      expect({ ...responder.finish(), remoteStatic: undefined }).toEqual({ ...result, remoteStatic: undefined });
      const ciphers = [new CipherState(result.initiatorToResponder), new CipherState(result.responderToInitiator)];
      for (const [offset, { payload, ciphertext }] of vector.messages.slice(handshakeMessages).entries()) {
        // In these vectors the initiator always sends the first transport message.
        expect(ciphers[offset % 2]!.encrypt(Buffer.alloc(0), hex(payload)).toString("hex")).toBe(ciphertext);
      }
    });
  }
});
