import { execFile } from "node:child_process";
import { promisify } from "node:util";

/** Why this process cannot send packets that it made itself, where it cannot. */
export const cannotForge: string | undefined =
  process.geteuid?.() === 0 ? undefined : "only root may send packets of its own making";

/** UDP's header by hand (RFC 768), without a checksum, over the kernel's IPv4: no socket has port 0. */
const SCRIPT = `
use Socket;
my ($from, $to, $port, $hex) = @ARGV;
my $payload = pack("H*", $hex);
socket(my $raw, AF_INET, SOCK_RAW, 17) or die "socket: $!";
bind($raw, sockaddr_in(0, inet_aton($from))) or die "bind: $!";
send($raw, pack("n4", 0, $port, 8 + length($payload), 0) . $payload, 0, sockaddr_in(0, inet_aton($to))) or die "send: $!";
`;

/**
 * A datagram whose source port is 0, to which nobody can send an answer. With Debian's perl, which is always there.
 * @throws Error where it {@link cannotForge}
 */
export async function sendFromPortZero(
  from: string,
  to: { host: string; port: number },
  payload: Buffer,
): Promise<void> {
  await promisify(execFile)("perl", ["-e", SCRIPT, from, to.host, String(to.port), payload.toString("hex")]);
}
