import type { Socket } from "node:net";

/** Connections that come while there are no keys wait this long, as long as an open may take. */
const HOLD_MS = 10_000;
const MOST_HELD = 256;

/** Connections of applications that come while a subscription heals: they wait for it. */
export class HeldConnections {
  readonly #held = new Map<Socket, { channel: string; timer: NodeJS.Timeout }>();

  hold(socket: Socket, channel: string): void {
    socket.on("error", () => undefined);
    if (this.#held.size >= MOST_HELD) {
      socket.resetAndDestroy();
      return;
    }
    const timer = setTimeout(() => {
      this.#held.delete(socket);
      socket.resetAndDestroy();
    }, HOLD_MS);
    this.#held.set(socket, { channel, timer });
    socket.once("close", () => {
      clearTimeout(timer);
      this.#held.delete(socket);
    });
  }

  /** Hands all of them on. */
  release(take: (socket: Socket, channel: string) => void): void {
    for (const [socket, { channel, timer }] of [...this.#held]) {
      clearTimeout(timer);
      this.#held.delete(socket);
      take(socket, channel);
    }
  }

  reset(): void {
    this.release((socket) => socket.resetAndDestroy());
  }
}
