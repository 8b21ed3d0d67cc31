import type { Node } from "@isthmus/lab";
import { until } from "../until.ts";

/** Resolves when something on the node takes TCP connections at this port of 127.0.0.1. */
export async function awaitPort(node: Node, port: number): Promise<void> {
  await until(`port ${port} of ${node.name}`, async () => {
    const { code } = await node.run("bash", ["-c", `: < /dev/tcp/127.0.0.1/${port}`]);
    return code === 0 ? true : undefined;
  });
}
