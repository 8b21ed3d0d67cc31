import { createPrivateKey, createPublicKey, sign } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
  decodeControlFrame,
  decodeDatagramHeader,
  decodeInvite,
  decodeLegHeader,
  decodePreface,
  encodeControlHeader,
  encodeDatagramHeader,
  encodeInvite,
  encodeLegHeader,
  encodePreface,
  encodeProbe,
  encodeUnknownGeneration,
  fingerprintOf,
  GRANT_HEADER,
  generationBits,
  grantPayload,
  grantText,
  IsthmusError,
  type LegHeader,
  type LoginTranscript,
  loginTranscript,
  probeNonce,
  rotationTranscript,
  verifyLegHeader,
} from "@isthmus/protocol";
import { describe, expect, it } from "vitest";

interface Vector {
  name: string;
  bytes: string;
  refused?: string;
}

/** The vectors of a file as tables for vitest: those to accept, and those to refuse. */
function load<V extends object>(file: string): { good: (V & Vector)[]; refused: (V & Vector)[] } {
  const text = readFileSync(join(import.meta.dirname, `${file}.json`), "utf8");
  const { vectors } = JSON.parse(text) as { vectors: (V & Vector)[] };
  const refused = vectors.filter((vector) => vector.refused !== undefined);
  return { good: vectors.filter((vector) => vector.refused === undefined), refused };
}

const hex = (text: string): Buffer => Buffer.from(text, "hex");
const uint64 = (text: string): bigint => BigInt(`0x${text}`);

function codeOf(decode: () => unknown): string | undefined {
  try {
    decode();
    return undefined;
  } catch (error) {
    return error instanceof IsthmusError ? error.code : String(error);
  }
}

// RFC 8410: PKCS #8 of an Ed25519 key is this prefix and the seed.
const PKCS8_PREFIX = hex("302e020100300506032b657004220420");

function signWith(seed: string, message: Uint8Array): string {
  const key = createPrivateKey({ key: Buffer.concat([PKCS8_PREFIX, hex(seed)]), format: "der", type: "pkcs8" });
  return sign(null, message, key).toString("base64url");
}

function publicKeyOf(seed: string): string {
  const key = createPrivateKey({ key: Buffer.concat([PKCS8_PREFIX, hex(seed)]), format: "der", type: "pkcs8" });
  return createPublicKey(key).export({ type: "spki", format: "der" }).subarray(-32).toString("base64url");
}

describe("leg-header.json", () => {
  interface Leg extends Omit<LegHeader, "openId"> {
    openId: string;
    key: string;
    nonce?: string;
  }
  const { good, refused } = load<Leg>("leg-header");

  it.each(good)("$name", ({ bytes, nonce, key, openId, kind, side, attempt, allocation, generation }) => {
    if (nonce !== undefined) {
      expect(encodeProbe(hex(nonce)).toString("hex")).toBe(bytes);
      expect(decodeLegHeader(hex(bytes)).kind).toBe("probe");
      expect(probeNonce(hex(bytes)).toString("hex")).toBe(nonce);
      return;
    }
    const header = { kind, side, attempt, allocation, generation, openId: Number(uint64(openId)) };
    expect(encodeLegHeader(header, hex(key)).toString("hex")).toBe(bytes);
    expect(decodeLegHeader(hex(bytes))).toEqual(header);
    expect(verifyLegHeader(hex(bytes), hex(key))).toBe(true);
  });

  it.each(refused)("refused: $name", ({ bytes, refused: code }) => {
    expect(codeOf(() => decodeLegHeader(hex(bytes)))).toBe(code);
  });

  it("has one of each kind", () => {
    expect(new Set(good.map(({ kind }) => kind))).toEqual(new Set(["leg", "control", "also", "probe"]));
  });
});

describe("preface.json", () => {
  const { good, refused } = load<{ plain: boolean; attempt: number; openId: string; salt: string; key: string }>(
    "preface",
  );

  it.each(good)("$name", ({ bytes, key, plain, attempt, openId, salt }) => {
    const preface = { plain, attempt, openId: Number(uint64(openId)), salt: hex(salt) };
    expect(encodePreface(preface, hex(key)).toString("hex")).toBe(bytes);
    expect(decodePreface(hex(bytes), hex(key))).toEqual(preface);
  });

  it.each(refused)("refused: $name", ({ bytes, key, refused: code }) => {
    expect(codeOf(() => decodePreface(hex(bytes), hex(key)))).toBe(code);
  });
});

describe("control-frame.json", () => {
  const { good } = load<{ generation: string; counter: string; hint?: boolean }>("control-frame");

  it.each(good)("$name", ({ bytes, generation, counter, hint }) => {
    if (hint) {
      expect(encodeUnknownGeneration(generation).toString("hex")).toBe(bytes);
      expect(decodeControlFrame(hex(bytes))).toEqual({ kind: "unknown-generation", generation });
      return;
    }
    expect(encodeControlHeader(generation, uint64(counter)).toString("hex")).toBe(bytes);
    const frame = decodeControlFrame(Buffer.concat([hex(bytes), Buffer.alloc(16)]));
    expect(frame).toMatchObject({ kind: "sealed", generation, counter: uint64(counter), header: hex(bytes) });
  });
});

describe("datagram.json", () => {
  interface Datagram {
    type: 1 | 2 | 3 | 4;
    generation: string;
    generationBits: number;
    flow: number;
    counter: string;
    message?: number;
    index: number;
    count: number;
  }

  it.each(load<Datagram>("datagram").good)(
    "$name",
    ({ bytes, type, flow, counter, message, index, count, ...rest }) => {
      const header = {
        type,
        generationBits: rest.generationBits,
        flow,
        counter: uint64(counter),
        ...(message === undefined ? {} : { part: { message, index, count } }),
      };
      expect(generationBits(rest.generation)).toBe(rest.generationBits);
      expect(encodeDatagramHeader(header).toString("hex")).toBe(bytes);
      const decoded = decodeDatagramHeader(Buffer.concat([hex(bytes), Buffer.alloc(16)]));
      expect(decoded).toEqual({ header, length: bytes.length / 2 });
    },
  );
});

describe("login.json", () => {
  interface Login extends LoginTranscript {
    signer: "client" | "server";
    seed: string;
    signature: string;
  }

  it.each(load<Login>("login").good)("$name", ({ name: _, bytes, signer, seed, signature, ...fields }) => {
    const transcript = loginTranscript(signer, fields);
    expect(transcript.toString("hex")).toBe(bytes);
    expect(publicKeyOf(seed)).toBe(signer === "client" ? fields.clientKey : fields.serverKey);
    expect(signWith(seed, transcript)).toBe(signature);
  });
});

it.each(
  load<Record<"oldKey" | "newKey" | "oldSeed" | "newSeed" | "oldSignature" | "newSignature", string>>("rotation").good,
)("rotation.json: $name", ({ bytes, oldKey, newKey, oldSeed, newSeed, oldSignature, newSignature }) => {
  const transcript = rotationTranscript(oldKey, newKey);
  expect(transcript.toString("hex")).toBe(bytes);
  expect(signWith(oldSeed, transcript)).toBe(oldSignature);
  expect(signWith(newSeed, transcript)).toBe(newSignature);
});

it.each(load<Record<"header" | "headerText" | "payload" | "seed" | "issuer" | "grant", string>>("grant").good)(
  "grant.json: $name",
  ({ header, headerText, payload, seed, issuer, grant }) => {
    expect(JSON.stringify(GRANT_HEADER)).toBe(header);
    expect(Buffer.from(header).toString("base64url")).toBe(headerText);
    expect(grantPayload.parse(JSON.parse(payload))).toEqual(JSON.parse(payload));
    const signed = `${headerText}.${Buffer.from(payload).toString("base64url")}`;
    expect(publicKeyOf(seed)).toBe(issuer);
    expect(`${signed}.${signWith(seed, Buffer.from(signed))}`).toBe(grant);
    expect(grantText.parse(grant)).toBe(grant);
  },
);

it.each(load<{ key: string; fingerprint: string }>("fingerprint").good)(
  "fingerprint.json: $name",
  ({ key, fingerprint }) => {
    expect(fingerprintOf(hex(key))).toBe(fingerprint);
  },
);

it.each(load<{ json: string; text: string }>("invite").good)("invite.json: $name", ({ json, text }) => {
  expect(decodeInvite(text)).toEqual(JSON.parse(json));
  expect(encodeInvite(JSON.parse(json))).toBe(text);
});
