import { type LocalService, localService } from "@isthmus/protocol";
import { echo, tcpService, udpEcho } from "./programs.ts";

/** A service that nobody uses. */
export function service(name: string, changes: Partial<LocalService> = {}): LocalService {
  return localService.parse({ name, channels: [{ id: "tcp", proto: "tcp", target: "127.0.0.1:9" }], ...changes });
}

/** A service that sends everything back, over both protocols, for everybody. */
export async function echoService(changes: Partial<LocalService> = {}): Promise<LocalService> {
  const [tcp, udp] = [await tcpService(echo), await udpEcho()];
  return localService.parse({
    name: "echo",
    channels: [
      { id: "tcp", proto: "tcp", target: tcp },
      { id: "udp", proto: "udp", target: udp },
    ],
    anyone: true,
    ...changes,
  });
}
