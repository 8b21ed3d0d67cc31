import { createIdentity } from "@isthmus/service";
import { createStaticKey, type Generation, type HandshakeContext, Initiator, respond } from "../src/index.ts";

let requests = 0;

/** One side of a handshake, with keys of its own. */
export function party(shared: { requestId: string; subject: string }): HandshakeContext {
  return { identity: createIdentity(), staticKey: createStaticKey(), ...shared };
}

/** Keys of a handshake between two daemons that never met: the subscriber's half, and the provider's. */
export function agreement(): { initiator: Generation; responder: Generation } {
  const shared = { requestId: `request-${requests++}`, subject: "web@bob" };
  const asks = new Initiator(party(shared));
  const answer = respond(party(shared), asks.message, 0);
  return { initiator: asks.finish(answer.message, 0).generation, responder: answer.generation };
}
