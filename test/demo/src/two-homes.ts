import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { portOf, type Subscription, type TwoHomes, twoHomes, until } from "@isthmus/e2e";
import { type Lab, ORDINARY_UID } from "@isthmus/lab";
import type { KernelIst } from "./kernel-ist.ts";
import { command, detail, step } from "./narrate.ts";
import { makeSite, nginxConfig } from "./web-server.ts";

const WEB_PORT = 8080;
const DOWNLOAD_BYTES = 64 * 1024 * 1024;
const GREETING = "Hello from behind bob's NAT";

/**
 * The main job, over real NATs: an nginx in home B, which its router lets nobody reach, used from home A.
 * @param datapath what the IST is told to move the bytes with
 * @param kernel the IST's host, where the IST is to splice in its kernel
 * @returns what keeps running
 * @throws Error when anything is not as it should be
 */
export async function showTwoHomes(
  lab: Lab,
  datapath: string,
  kernel?: KernelIst,
): Promise<{ homes: TwoHomes; subscription: Subscription }> {
  step(
    "An Internet with a broker (ISB) and a relay (IST), and two homes behind NAT routers. Nothing is set up on the routers.",
  );
  const homes = await twoHomes(lab, kernel?.options ?? { istFlags: ["--data-path", datapath] });
  const { alice, bob, deployment } = homes;
  detail(lab.topology());
  detail(kernel ? await kernel.describe(deployment.ist) : await dataPathOf(deployment));

  step("Both users' daemons log in to the broker. They run as an ordinary user, with no privilege.");
  for (const daemon of [bob, alice]) {
    const { isb } = await daemon.status();
    detail(
      `${daemon.user} at ${daemon.node.ipv4} logged in to ${isb?.origin}; the broker sees ${isb?.observed}: the router's address`,
    );
  }

  step(`bob has an unmodified web server on his own 127.0.0.1:${WEB_PORT}, and offers it to alice.`);
  await startNginx(homes);
  const refused = await alice.node.run("curl", [
    "-sS",
    "--max-time",
    "2",
    `http://${lab.node("home-b").ipv4}:${WEB_PORT}/`,
  ]);
  detail(`from alice to bob's router, port ${WEB_PORT}: ${refused.stderr.trim().replace(/^curl: \(\d+\) /, "")}`);
  await bob.provide("web", "--tcp", `127.0.0.1:${WEB_PORT}`, "--allow", "alice");
  detail(`bob$ ${command(`isthmus provide web --tcp 127.0.0.1:${WEB_PORT} --allow alice`)}`);

  step("alice subscribes. The two daemons agree on keys through the broker, which cannot read what follows.");
  const started = performance.now();
  const subscription = await alice.subscribe("web@bob");
  const took = performance.now() - started;
  const port = portOf(subscription);
  detail(`alice$ ${command("isthmus subscribe web@bob")}   (${Math.round(took)} ms, command line included)`);
  detail(`negotiated: provider's key ${subscription.fingerprint}; use it at ${subscription.listen[0]?.address}`);
  const joined = await until("both have joined at the IST", async () => {
    const { subscriptions } = await alice.status();
    const path = subscriptions[0]?.tcp;
    return path?.path === "cell" ? path : undefined;
  });
  detail(`meeting place: ${joined.detail}, on ${deployment.ist.node.ipv4} (${await cellPorts(homes)})`);

  step("alice uses it like any web server, on her own 127.0.0.1.");
  const page = await alice.node.read("curl", ["-sS", `http://127.0.0.1:${port}/`]);
  detail(`alice$ ${command(`curl http://127.0.0.1:${port}/`)}`);
  detail(page.trim());
  if (!page.includes(GREETING)) throw new Error("this is not bob's page");
  const before = await kernel?.counts(deployment.ist);
  detail(await throughput(homes, port));
  if (kernel && before) detail(await kernel.moved(deployment.ist, before, DOWNLOAD_BYTES));
  return { homes, subscription };
}

/** What the IST says of its data path. */
async function dataPathOf({ ist }: TwoHomes["deployment"]): Promise<string> {
  const line = (await ist.status()).split("\n").find((each) => each.startsWith("data path"));
  return `the IST's ${line?.replace(/ +/g, " ")}`;
}

async function startNginx({ bob }: TwoHomes): Promise<void> {
  const folder = join(bob.node.folder, "nginx");
  const site = join(bob.node.folder, "site");
  mkdirSync(folder, { recursive: true });
  makeSite(site, GREETING, DOWNLOAD_BYTES);
  writeFileSync(join(folder, "nginx.conf"), nginxConfig(folder, site, WEB_PORT));
  await bob.node.read("chown", ["-R", `${ORDINARY_UID}:${ORDINARY_UID}`, folder, site]);
  bob.node.spawn("nginx", ["-p", folder, "-c", join(folder, "nginx.conf")], { uid: ORDINARY_UID });
  await until("nginx answers", async () => {
    const { code } = await bob.node.run("curl", ["-sSf", "-o", "/dev/null", `http://127.0.0.1:${WEB_PORT}/`]);
    return code === 0 ? true : undefined;
  });
}

/** What the two sides were given at the IST, out of the daemons' logs. */
async function cellPorts({ alice, bob }: TwoHomes): Promise<string> {
  const texts = [alice, bob].map((daemon) => {
    const line = /"cells":(\[[^\]]*\])[^\n]*"allocation joined"/.exec(daemon.program.output.since(0));
    const cells = JSON.parse(line?.[1] ?? "[]") as { cell: number; port: number }[];
    return `${daemon.user}: ${cells.map(({ cell, port }) => `cell ${cell} ${port === 0 ? "at a port to be learned" : `port ${port}`}`).join(", ")}`;
  });
  return texts.join("; ");
}

async function throughput({ alice }: TwoHomes, port: number): Promise<string> {
  const format = "%{speed_download} %{size_download}";
  const text = await alice.node.read("curl", [
    "-sS",
    "-o",
    "/dev/null",
    "-w",
    format,
    `http://127.0.0.1:${port}/download`,
  ]);
  const [speed, size] = text.split(" ").map(Number) as [number, number];
  if (size !== DOWNLOAD_BYTES) throw new Error(`the download has ${size} bytes instead of ${DOWNLOAD_BYTES}`);
  return `${DOWNLOAD_BYTES / 1024 / 1024} MiB downloaded, encrypted end to end, at ${((speed * 8) / 1e9).toFixed(2)} Gbit/s`;
}
