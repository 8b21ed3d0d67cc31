import { fingerprintOf, type KeyRotation, rotationTranscript } from "@isthmus/protocol";
import { createIdentity, type Identity, silentLogger } from "@isthmus/service";
import { beforeEach, describe, expect, test } from "vitest";
import { Pins } from "../src/pins.ts";
import { StateFile } from "../src/state.ts";
import { temporaryFolder } from "./support/folder.ts";

const PEER = "web@bob";
const changed = expect.objectContaining({ code: "peer-key-changed" });
const refused = expect.objectContaining({ code: "bad-request" });

function rotation(from: Identity, to: Identity, signer = from): KeyRotation {
  const signature = signer.sign(rotationTranscript(from.publicKey, to.publicKey));
  return { from: from.publicKey, to: to.publicKey, signature };
}

let folder: string;
let pins: Pins;
const [old, next, last, mallory] = [createIdentity(), createIdentity(), createIdentity(), createIdentity()] as const;

beforeEach(() => {
  folder = temporaryFolder();
  pins = new Pins(new StateFile(folder), silentLogger());
});

/** What is on disk. */
function pinned(): string | undefined {
  return new StateFile(folder).state.pins[PEER]?.key;
}

describe("a peer's key", () => {
  test("is pinned at its first use, over a restart", () => {
    pins.check(PEER, old.publicKey, []);
    expect(pinned()).toBe(old.publicKey);
    const again = new Pins(new StateFile(folder), silentLogger());
    again.check(PEER, old.publicKey, []);
    expect(() => again.check(PEER, mallory.publicKey, [])).toThrow(changed);
    expect(again.all()).toEqual([
      {
        peer: PEER,
        fingerprint: fingerprintOf(old.publicKey),
        since: expect.any(String),
        offered: fingerprintOf(mallory.publicKey),
      },
    ]);
  });

  test("that changed is refused with both fingerprints, and is what may be trusted", () => {
    pins.check(PEER, old.publicKey, []);
    const check = (): void => pins.check(PEER, next.publicKey, []);
    expect(check).toThrow(fingerprintOf(old.publicKey));
    expect(check).toThrow(fingerprintOf(next.publicKey));
    expect(pinned()).toBe(old.publicKey);
    expect(() => pins.trust(PEER, fingerprintOf(mallory.publicKey))).toThrow(refused);
    expect(pins.trust(PEER, fingerprintOf(next.publicKey))).toBe(fingerprintOf(next.publicKey));
    expect(pinned()).toBe(next.publicKey);
    expect(() => pins.trust(PEER)).toThrow(refused);
  });

  test("that was refused is not on offer any more once the pinned one is shown again", () => {
    pins.check(PEER, old.publicKey, []);
    expect(() => pins.check(PEER, mallory.publicKey, [])).toThrow(changed);
    pins.check(PEER, old.publicKey, []);
    expect(pins.all()).toEqual([expect.not.objectContaining({ offered: expect.anything() })]);
    expect(() => pins.trust(PEER)).toThrow(refused);
    expect(pinned()).toBe(old.publicKey);
  });

  test("may follow from the pinned one by rotations, each signed by the older key", () => {
    pins.check(PEER, old.publicKey, []);
    pins.check(PEER, last.publicKey, [rotation(old, next), rotation(next, last)]);
    expect(pinned()).toBe(last.publicKey);
  });

  test.each([
    ["signed by somebody else", () => [rotation(old, next, mallory)]],
    ["with a link missing", () => [rotation(mallory, next)]],
    ["in the wrong order", () => [rotation(last, next), rotation(old, last)]],
    ["none", () => []],
  ])("does not follow by rotations that are %s", (_what, rotations) => {
    pins.check(PEER, old.publicKey, []);
    expect(() => pins.check(PEER, next.publicKey, rotations())).toThrow(changed);
    expect(pinned()).toBe(old.publicKey);
  });

  test("must be the one that the user insists on, or follow from it, whatever is pinned", () => {
    const wanted = fingerprintOf(old.publicKey);
    expect(() => pins.check(PEER, mallory.publicKey, [], wanted)).toThrow(changed);
    expect(pinned()).toBeUndefined();
    expect(() => pins.check(PEER, next.publicKey, [rotation(old, next, mallory)], wanted)).toThrow(changed);
    pins.check(PEER, mallory.publicKey, []);
    pins.check(PEER, next.publicKey, [rotation(old, next)], wanted);
    expect(pinned()).toBe(next.publicKey);
  });

  test("that is forgotten is pinned again at its next use", () => {
    expect(() => pins.forget(PEER)).toThrow(refused);
    pins.check(PEER, old.publicKey, []);
    expect(() => pins.check(PEER, next.publicKey, [])).toThrow(changed);
    pins.forget(PEER);
    expect(pins.all()).toEqual([]);
    pins.check(PEER, next.publicKey, []);
    expect(pinned()).toBe(next.publicKey);
  });

  test("that was refused stays on offer when there is none to forget", () => {
    expect(() => pins.check(PEER, mallory.publicKey, [], fingerprintOf(old.publicKey))).toThrow(changed);
    expect(() => pins.forget(PEER)).toThrow(refused);
    expect(pins.all()).toEqual([{ peer: PEER, fingerprint: "", since: "", offered: fingerprintOf(mallory.publicKey) }]);
  });
});
