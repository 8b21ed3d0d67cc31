import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";

const V6_ONLY = "/proc/sys/net/ipv6/bindv6only";

/** Local addresses that together mean every address of this host. */
export async function wildcards(): Promise<string[]> {
  if (!(await canListen("::"))) return ["0.0.0.0"];
  // Such a system gives a UDP socket on :: no IPv4, and Node has no way to ask for it.
  return isV6Only() ? ["::", "0.0.0.0"] : ["::"];
}

/** @throws the system's error, naming the address */
export async function checkAddress(host: string): Promise<void> {
  const server = createServer();
  server.listen({ host, port: 0, exclusive: true });
  await once(server, "listening");
  server.close();
}

function canListen(host: string): Promise<boolean> {
  return checkAddress(host).then(
    () => true,
    () => false,
  );
}

function isV6Only(): boolean {
  try {
    return readFileSync(V6_ONLY, "utf8").trim() === "1";
  } catch {
    return false;
  }
}
