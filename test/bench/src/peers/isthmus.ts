import { type TwoHomes, until } from "@isthmus/e2e";
import { type Path, READY_MS } from "./path.ts";

/**
 * The service at `port` of bob's loopback address as alice uses it, over an IST. Ready when both daemons have joined
 * there.
 */
export async function isthmusPath(
  { alice, bob, deployment }: TwoHomes,
  options: { name: string; port: number; listen: number; plain?: boolean },
): Promise<Path> {
  const { name, port, listen, plain = false } = options;
  const mode = plain ? ["--plain"] : [];
  await bob.provide(name, "--tcp", `127.0.0.1:${port}`, "--allow", "alice", ...mode);
  await alice.subscribe(`${name}@bob`, "--listen", `127.0.0.1:${listen}`, ...mode);
  await until(
    "both daemons have joined at the IST",
    async () => {
      const { subscriptions } = await alice.status();
      return subscriptions.find(({ service }) => service === name)?.tcp?.path === "cell" ? true : undefined;
    },
    READY_MS,
  );
  return {
    name: plain ? "Isthmus, plain" : "Isthmus, sealed",
    host: "127.0.0.1",
    port: listen,
    programs: [alice.program, deployment.ist.program, bob.program],
  };
}
