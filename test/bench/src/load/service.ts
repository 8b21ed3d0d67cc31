/** Services that somebody measures: `listen` on a port of the loopback address with one of the behaviours below. */
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { serveCommands } from "./commands.ts";

const BEHAVIOURS = {
  /** Answers with what comes. */
  echo: (socket: Socket) => socket.on("data", (chunk) => socket.write(chunk)),
  /** Answers the first byte with when it came, see {@link import("./client.ts")}, and ends. */
  stamp: (socket: Socket) =>
    socket.once("data", () => {
      const stamp = Buffer.alloc(8);
      stamp.writeBigUInt64BE(process.hrtime.bigint());
      socket.end(stamp);
    }),
  /** Speaks first, and ends. */
  banner: (socket: Socket) => {
    socket.end("b");
    socket.resume();
  },
};

export type Behaviour = keyof typeof BEHAVIOURS;

await serveCommands({
  listen: async ({ host = "127.0.0.1", port, behaviour }: { host?: string; port: number; behaviour: Behaviour }) => {
    const server = createServer({ noDelay: true }, (socket) => {
      socket.on("error", () => undefined);
      BEHAVIOURS[behaviour](socket);
    });
    // Thousands of connections may come within a moment.
    server.listen({ host, port, backlog: 4096 });
    await once(server, "listening");
  },
});
