import type { Socket } from "node:net";
import { LEG_HEADER_BYTES } from "@isthmus/protocol";
import { type Greeting, greetingOf } from "./first-bytes.ts";

/** What a connection showed itself to be; everything else, silence included, is `unknown`. */
export type KnownGreeting = Exclude<Greeting, "more">;

/**
 * Reads a connection until it shows what it is, a leg's until its whole header is there. `done` is called once, with the
 * socket paused and all that was read; not when the connection fails before.
 */
export function readGreeting(
  socket: Socket,
  timeoutMs: number,
  done: (greeting: KnownGreeting, bytes: Buffer) => void,
): void {
  let bytes: Buffer = Buffer.alloc(0);
  const timer = setTimeout(() => settle("unknown"), timeoutMs);
  const stop = (): void => {
    clearTimeout(timer);
    socket.off("data", onData);
    socket.off("end", onEnd);
    socket.off("close", stop);
  };
  const settle = (greeting: KnownGreeting): void => {
    stop();
    socket.pause();
    done(greeting, bytes);
  };
  const onEnd = (): void => settle("unknown");
  const onData = (chunk: Buffer): void => {
    bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk]);
    const greeting = greetingOf(bytes);
    if (greeting === "more" || (greeting === "leg" && bytes.length < LEG_HEADER_BYTES)) return;
    settle(greeting);
  };
  socket.on("data", onData);
  socket.on("end", onEnd);
  socket.on("close", stop);
  socket.resume();
}
