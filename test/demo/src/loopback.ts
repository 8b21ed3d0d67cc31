import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { appProgram, NODE, portOf, type Subscription } from "@isthmus/e2e";
import { Program } from "@isthmus/lab";
import { command, detail, headline, step } from "./narrate.ts";

const PAGE = "Hello from bob's web server\n";
const execute = promisify(execFile);

/**
 * The main job without NATs, for a user who is not root: broker, relay and two daemons on loopback.
 * @param interrupted ends it at any time
 * @param stay is given commands to try; all ends when it returns
 */
export async function showLoopback(
  interrupted: Promise<void>,
  stay: (commands: string[]) => Promise<void>,
): Promise<void> {
  headline("Isthmus, on loopback");
  detail(
    "This is not root, which the laboratory with real NATs needs (network namespaces: CAP_SYS_ADMIN, CAP_NET_ADMIN).",
  );
  detail("The same follows without NATs. As root: sudo npm start");
  const folder = mkdtempSync(join(tmpdir(), "isthmus-demo-"));
  const programs: Program[] = [];
  const web = createServer((_request, response) => response.end(PAGE));
  try {
    await Promise.race([show({ folder, programs, web, stay }), interrupted]);
  } finally {
    await Promise.all(programs.map((program) => program.destroy()));
    web.closeAllConnections();
    web.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function show(demo: {
  folder: string;
  programs: Program[];
  web: Server;
  stay: (commands: string[]) => Promise<void>;
}): Promise<void> {
  const { folder, programs, web, stay } = demo;
  const start = async (app: "isb" | "daemon", name: string, args: string[], env = {}): Promise<void> => {
    const program = Program.start(NODE, [appProgram(app), ...args], { name, env: { ...process.env, ...env } });
    programs.push(program);
    await program.waitForOutput(/"msg":"ready"/);
  };

  step("A broker (ISB) with a relay (IST) in the same process.");
  const [isbPort, adminPort, istPort] = await freePorts(3);
  const data = join(folder, "isb");
  const isb = ["--data", data, "--listen", `127.0.0.1:${isbPort}`, "--admin-listen", `127.0.0.1:${adminPort}`];
  await start("isb", "isthmus-isb", [...isb, "--with-ist"], {
    ISTHMUS_ISB_IST__LISTEN__PORT: String(istPort),
    ISTHMUS_ISB_IST__LISTEN__ADDRESSES: '["127.0.0.1"]',
    ISTHMUS_ISB_IST__PUBLIC: '["127.0.0.1"]',
    ISTHMUS_ISB_IST__LOCK: `demo-${process.pid}`,
  });
  detail(`isthmus-isb --with-ist: sessions at 127.0.0.1:${isbPort}, relay at 127.0.0.1:${istPort}`);

  step("Both users' daemons log in.");
  const cli = async (user: string, ...args: string[]): Promise<string> => {
    const { stdout } = await execute(NODE, [appProgram("cli"), "--socket", socketOf(folder, user), ...args]);
    return stdout;
  };
  for (const user of ["bob", "alice"]) {
    const state = join(folder, user);
    mkdirSync(state, { mode: 0o700 });
    // Without --no-direct they would find that they reach each other, and leave the relay out.
    await start("daemon", `daemon of ${user}`, ["--state", state, "--socket", socketOf(folder, user), "--no-direct"]);
    const made = await execute(NODE, [appProgram("isb"), ...isb, "invite", user, "--json"]);
    const { invite } = JSON.parse(made.stdout) as { invite: string };
    detail((await cli(user, "login", invite, "--device", `${user}-laptop`)).trim());
  }

  step("bob has a web server on 127.0.0.1, and offers it to alice. alice subscribes.");
  web.listen(0, "127.0.0.1");
  await new Promise((resolve) => web.once("listening", resolve));
  const { port: webPort } = web.address() as AddressInfo;
  await cli("bob", "provide", "web", "--tcp", `127.0.0.1:${webPort}`, "--allow", "alice");
  detail(`bob$ ${command(`isthmus provide web --tcp 127.0.0.1:${webPort} --allow alice`)}`);
  const subscription = JSON.parse(await cli("alice", "--json", "subscribe", "web@bob")) as Subscription;
  detail(`alice$ ${command("isthmus subscribe web@bob")}`);
  const url = `http://127.0.0.1:${portOf(subscription)}/`;
  detail(`negotiated: provider's key ${subscription.fingerprint}; use it at ${url}`);

  step("alice uses it.");
  const page = await (await fetch(url)).text();
  detail(`alice$ ${command(`curl ${url}`)}`);
  detail(page.trim());
  if (page !== PAGE) throw new Error("this is not bob's page");
  const isthmus = (user: string, args: string): string => `npx isthmus --socket ${socketOf(folder, user)} ${args}`;
  await stay([`curl ${url}`, isthmus("alice", "explain web@bob"), isthmus("bob", "status")]);
}

function socketOf(folder: string, user: string): string {
  return join(folder, user, "s");
}

/** Ports that are free now; taken together, so that they differ. */
async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createTcpServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((server) => new Promise((resolve) => server.once("listening", resolve))));
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
