/** Pieces of shell scripts: many settings by one process. */

/** Lines of `ip` commands without the `ip`; the first that fails ends the script. */
export function batch(lines: string[]): string {
  return `ip -batch - <<'END'\n${lines.join("\n")}\nEND`;
}

/** An nftables ruleset, loaded as a whole or not at all. */
export function load(ruleset: string): string {
  return `nft -f - <<'END'\n${ruleset}\nEND`;
}

/** Some 2 ms each: where the other end stays down there is nothing to wait for. */
const CARRIER_TRIES = 500;

/** Linux finishes setting a device up behind our back, and drops packets until then. */
export function awaitCarrier(device: string): string {
  return `tries=0
until ip -br link show ${device} | grep -Eq ' (UP|UNKNOWN) ' || [ $((tries += 1)) -gt ${CARRIER_TRIES} ]; do :; done`;
}
