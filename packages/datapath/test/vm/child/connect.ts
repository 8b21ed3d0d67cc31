import { once } from "node:events";
import { hosts } from "../../one-cell.ts";

/** Opens legs of side 0 at a port, so many one after the other, each of which takes the place of the one before. */
const [port, count] = process.argv.slice(2).map(Number) as [number, number];
for (let n = 0; n < count; n++) {
  const { socket } = hosts.sides[0].connect(port);
  await once(socket, "connectionAttempt");
  await new Promise((resolve) => setImmediate(resolve));
  socket.destroy();
}
