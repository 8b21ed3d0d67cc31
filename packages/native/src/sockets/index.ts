export { socketsUnavailable } from "./available.ts";
export type { ShownSocket } from "./binding.ts";
export { type DoorPeer, ownNetwork, SocketDoor, type SocketDoorOptions } from "./socket-door.ts";
export { type OpenSocket, SocketWatch, type SocketWatchOptions } from "./socket-watch.ts";
