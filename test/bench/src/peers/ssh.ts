import { copyFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TwoHomes } from "@isthmus/e2e";
import type { Node, Program } from "@isthmus/lab";
import { untilListening } from "./haproxy.ts";
import type { Path } from "./path.ts";

const SSH_PORT = 2222;

/** An sshd on a public host, for {@link sshPath}. */
export interface SshServer {
  host: Node;
  program: Program;
  /** A key that may log in there as root. */
  key: string;
}

export async function startSshd(host: Node): Promise<SshServer> {
  const hostKey = join(host.folder, "host-key");
  const key = join(host.folder, "user-key");
  for (const file of [hostKey, key]) await host.read("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", file]);
  const allowed = join(host.folder, "allowed-keys");
  copyFileSync(`${key}.pub`, allowed);
  const config = join(host.folder, "sshd_config");
  writeFileSync(config, sshdConfiguration({ port: SSH_PORT, hostKey, allowed }));
  // Debian's sshd insists on this folder, which the system's own start-up makes.
  await host.read("mkdir", ["-p", "/run/sshd"]);
  const program = host.spawn("/usr/sbin/sshd", ["-D", "-e", "-f", config], { name: "sshd" });
  await untilListening(host, `0.0.0.0:${SSH_PORT}`);
  return { host, program, key };
}

/** Of an sshd of one's own. @param options.allowed file of the keys that may log in as root */
export function sshdConfiguration(options: { port: number; hostKey: string; allowed: string }): string {
  return `Port ${options.port}
HostKey ${options.hostKey}
AuthorizedKeysFile ${options.allowed}
StrictModes no
UsePAM no
PidFile none
PermitRootLogin prohibit-password
`;
}

/** `ssh -R` from home B and `ssh -L` from home A, through one sshd: encrypted twice, and clear on the server. */
export async function sshPath(
  { alice, bob }: TwoHomes,
  options: { server: SshServer; port: number; listen: number; cipher?: string },
): Promise<Path> {
  const { server, port, listen, cipher } = options;
  const meeting = `127.0.0.1:${listen}`;
  const back = startSsh(bob.node, server, ["-R", `${meeting}:127.0.0.1:${port}`], cipher);
  await untilListening(server.host, meeting);
  const there = startSsh(alice.node, server, ["-L", `${meeting}:${meeting}`], cipher);
  await untilListening(alice.node, meeting);
  return {
    name: cipher === undefined ? "ssh -R and -L" : `ssh -R and -L, ${cipher}`,
    host: "127.0.0.1",
    port: listen,
    programs: [back, server.program, there],
  };
}

function startSsh(node: Node, { host, key }: SshServer, forwarding: string[], cipher: string | undefined): Program {
  const options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "ExitOnForwardFailure=yes"];
  const args = ["-N", "-T", "-F", "none", "-i", key, "-p", String(SSH_PORT), ...options.flatMap((one) => ["-o", one])];
  const chosen = cipher === undefined ? [] : ["-c", cipher];
  return node.spawn("ssh", [...args, ...chosen, ...forwarding, `root@${host.ipv4}`], { name: "ssh" });
}
