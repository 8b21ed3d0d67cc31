import { loaded } from "../src/addon.ts";
import type { AeadEngine } from "../src/aead/engine.ts";
import { NodeEngine } from "../src/aead/node-engine.ts";

/** Absent where nothing could be built; addon.test.ts fails if that is not for want of a compiler. */
export const nativeEngine: AeadEngine | undefined = "addon" in loaded ? loaded.addon.aead : undefined;

/** Why there is no native engine, where there is none. */
export const nativeUnavailable: string | undefined = "reason" in loaded ? loaded.reason : undefined;

/** Every implementation that this machine has: each passes the same tests. */
export const engines: { name: string; engine: AeadEngine }[] = [{ name: "node:crypto", engine: new NodeEngine() }];
if (nativeEngine) engines.push({ name: "native", engine: nativeEngine });

/** Each implementation's records opened by each. */
export const pairs = engines.flatMap((sealing) =>
  engines.map((opening) => ({
    from: sealing.name,
    to: opening.name,
    sealing: sealing.engine,
    opening: opening.engine,
  })),
);

export const KEY = Buffer.from("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "hex");
export const OTHER_KEY = Buffer.from(KEY).reverse();
export const IV = Buffer.from("a0a1a2a3a4a5a6a7a8a9aaab", "hex");
