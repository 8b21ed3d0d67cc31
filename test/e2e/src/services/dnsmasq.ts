import { type Node, ORDINARY_UID } from "@isthmus/lab";

/** A name server of this port with nothing in it but these records. */
export async function startDnsmasq(
  node: Node,
  port: number,
  records: { addresses: Record<string, string>; texts: Record<string, string[]> },
): Promise<void> {
  const program = node.spawn(
    "dnsmasq",
    [
      ...["--keep-in-foreground", "--log-facility=-", "--conf-file=/dev/null", "--pid-file", "--user="],
      ...[
        "--no-resolv",
        "--no-hosts",
        "--edns-packet-max=4096",
        "--listen-address=127.0.0.1",
        "--bind-interfaces",
        `--port=${port}`,
      ],
      ...Object.entries(records.addresses).map(([name, address]) => `--host-record=${name},${address}`),
      ...Object.entries(records.texts).map(([name, texts]) => `--txt-record=${[name, ...texts].join(",")}`),
    ],
    { uid: ORDINARY_UID },
  );
  await program.waitForOutput(/started, version/);
}
