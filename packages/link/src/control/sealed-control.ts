import { createDatagramOpener, createDatagramSealer, type DatagramOpener, type DatagramSealer } from "@isthmus/native";
import {
  CONTROL_HEADER_BYTES,
  type ControlFrame,
  decodeLinkControl,
  encodeControlHeader,
  encodeLinkControl,
  type LinkControlMessage,
} from "@isthmus/protocol";
import type { Generation } from "../keys/generation.ts";
import { ReplayWindow } from "./replay-window.ts";

/** What a sealed control frame turned out to be. */
export type OpenedControl =
  | { is: "message"; message: LinkControlMessage }
  /** Authentic, but of a type that this build does not know. */
  | { is: "unknown" }
  /** Forged, cut, or seen before. */
  | { is: "refused" };

/** Control messages under the keys of one generation, whatever way they travel. */
export class SealedControl {
  readonly #generation: Generation;
  readonly #sealer: DatagramSealer;
  readonly #opener: DatagramOpener;
  readonly #window = new ReplayWindow();
  #counter = 0n;

  constructor(generation: Generation) {
    this.#generation = generation;
    this.#sealer = createDatagramSealer(generation.suite, generation.send.control);
    this.#opener = createDatagramOpener(generation.suite, generation.receive.control);
  }

  /** @throws IsthmusError `too-large` */
  seal(message: LinkControlMessage): Buffer {
    const counter = this.#counter++;
    return this.#sealer.seal(encodeControlHeader(this.#generation.id, counter), counter, encodeLinkControl(message));
  }

  /** @throws IsthmusError `bad-message` from a peer that breaks the protocol under its own seal */
  open(frame: Extract<ControlFrame, { kind: "sealed" }>): OpenedControl {
    const counter = Number(frame.counter);
    if (!Number.isSafeInteger(counter) || !this.#window.isNew(counter)) return { is: "refused" };
    const whole = Buffer.concat([frame.header, frame.ciphertext]);
    const plaintext = this.#opener.open(whole, CONTROL_HEADER_BYTES, frame.counter);
    if (!plaintext) return { is: "refused" };
    this.#window.take(counter);
    const message = decodeLinkControl(plaintext);
    return message ? { is: "message", message } : { is: "unknown" };
  }
}
