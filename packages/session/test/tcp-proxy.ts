import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { onTestFinished } from "vitest";

/** A wire between client and server that a test can hold or cut. */
export interface TcpProxy {
  port: number;
  origin: string;
  /** From now on nothing passes, on old and on new connections, and nobody is told. */
  freeze(): void;
  thaw(): void;
  /** Resets all connections. */
  cut(): void;
}

export async function startProxy(target: { port: number }): Promise<TcpProxy> {
  const sockets = new Set<Socket>();
  let frozen = false;
  const server = createServer((near) => {
    const far = connect(target.port, "127.0.0.1");
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from.on("data", (data) => to.write(data));
      from.on("end", () => {
        if (!frozen) to.end();
      });
      from.on("error", () => undefined);
      from.on("close", () => {
        if (!frozen) to.destroy();
        sockets.delete(from);
      });
      if (frozen) from.pause();
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const each = (act: (socket: Socket) => unknown): void => {
    for (const socket of sockets) act(socket);
  };
  onTestFinished(async () => {
    each((socket) => socket.destroy());
    await new Promise((resolve) => server.close(resolve));
  });
  return {
    port,
    origin: `ws://127.0.0.1:${port}`,
    freeze() {
      frozen = true;
      each((socket) => socket.pause());
    },
    thaw() {
      frozen = false;
      each((socket) => socket.resume());
    },
    cut() {
      each((socket) => socket.resetAndDestroy());
    },
  };
}
