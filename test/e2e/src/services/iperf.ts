import { type Node, ORDINARY_UID } from "@isthmus/lab";

/** iperf3's server; one test at a time. */
export async function startIperf(node: Node, port: number): Promise<void> {
  const flags = ["--server", "--port", String(port), "--bind", "127.0.0.1", "--forceflush"];
  await node.spawn("iperf3", flags, { uid: ORDINARY_UID }).waitForOutput(/Server listening/);
}
