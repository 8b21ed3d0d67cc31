import { type TwoHomes, twoHomes } from "@isthmus/e2e";
import type { Lab } from "@isthmus/lab";

/**
 * Lets the Internet reach a port of the host in home B: a port forwarding on its router, which everything but Isthmus
 * needs that is to be compared with it.
 * @returns the router's address
 */
export async function forwardPort({ lab, bob }: Pick<TwoHomes, "lab" | "bob">, port: number): Promise<string> {
  const router = lab.node("home-b");
  await router.script(`nft -f - <<'END'
table ip forwarded_ports {
  chain prerouting {
    type nat hook prerouting priority dstnat
    ip daddr ${router.ipv4} tcp dport ${port} dnat to ${bob.node.ipv4}:${port}
  }
}
END`);
  return router.ipv4;
}

/** Two homes whose cables to the Internet are delay lines; the IST is midway. See {@link setRoundTrip}. */
export function homesWithDelay(lab: Lab): Promise<TwoHomes> {
  return twoHomes(lab, { delayMs: 1 });
}

/** @param ms from one home to the other and back: four times a cable */
export async function setRoundTrip(lab: Lab, ms: number): Promise<void> {
  for (const name of ["home-a", "home-b"]) {
    const line = lab.homes.get(name)!.link.delayLine;
    await line.set("out", { delayMs: ms / 4 });
    await line.set("in", { delayMs: ms / 4 });
  }
}
