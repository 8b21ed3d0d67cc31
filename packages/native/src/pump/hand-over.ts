import type { Socket } from "node:net";
import { loaded } from "../addon.ts";
import type { PumpLeg } from "./index.ts";

/** The part of Node's own that a socket can be handed over by; it has no public name. */
interface Handle {
  readonly fd?: number;
  reading?: boolean;
  readStop?(): number;
}

/**
 * What the pump needs of a socket of Node's: its descriptor and everything that Node has read from it. Once the pump has
 * joined it, `socket.destroy()` lets go of Node's descriptor only.
 * Listeners to its data hear of what is taken out here, too: whoever has some does not listen to them meanwhile.
 * @param early what was read from it and taken out already
 * @returns nothing where it cannot be handed over (its own bytes wait to be sent, it has ended): it is as before then
 */
export function pumpLegOf(socket: Socket, early: Buffer): PumpLeg | undefined {
  const handle = (socket as Socket & { _handle?: Handle | null })._handle;
  const { fd = -1 } = handle ?? {};
  if (fd < 0 || handle?.readStop === undefined) return undefined;
  if (socket.destroyed || socket.connecting || socket.writableLength > 0 || socket.writableEnded) return undefined;
  handle.readStop();
  // So that it reads again if it stays with Node.
  handle.reading = false;
  const read = [early];
  // A socket that flows gives one chunk at a time.
  for (let chunk = socket.read(); chunk !== null; chunk = socket.read()) read.push(chunk as Buffer);
  return { fd, early: read.length === 1 ? early : Buffer.concat(read) };
}

/**
 * Lets a connected socket end with RST unless its FIN was sent in order: also when the process is killed, where the
 * kernel would send a FIN that looks like an end. Without the add-on nothing changes.
 */
export function resetUnlessFinished(socket: Socket): void {
  if (!("addon" in loaded)) return;
  const { pump } = loaded.addon;
  const set = (resets: boolean): void => {
    const { fd = -1 } = (socket as Socket & { _handle?: Handle | null })._handle ?? {};
    if (fd >= 0) pump.setResetOnClose(fd, resets);
  };
  set(true);
  socket.once("finish", () => set(false));
}
