import { loaded } from "../addon.ts";
import { NativeUdpSockets } from "./native-sockets.ts";
import { nodeUdpSockets } from "./node-sockets.ts";
import type { UdpSockets } from "./sockets.ts";

export { nodeUdpSockets } from "./node-sockets.ts";
export type { UdpAddress, UdpConnection, UdpPort, UdpSockets } from "./sockets.ts";

/** The add-on's, or Node's where it is not loaded. */
export const udpSockets: UdpSockets = "addon" in loaded ? new NativeUdpSockets(loaded.addon.udp) : nodeUdpSockets;
