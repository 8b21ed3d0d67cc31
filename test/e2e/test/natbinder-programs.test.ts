import { createHash } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { HomeGateway, Natbinder, NODE, ownFile, ownFolder, until } from "@isthmus/e2e";
import { type Home, Lab, type Node, ORDINARY_UID, type Program } from "@isthmus/lab";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { Binder, buildBinder } from "./fixtures/binder.ts";
import { mappedPorts } from "./fixtures/mapped-ports.ts";

const FIRST_PORT = 10_000;
const LAST_PORT = 10_009;
/** Transmission searches for the gateway by itself, in its own time. */
const TRANSMISSION_MS = 60_000;
/** A torrent of a few bytes that nobody has. */
const INFO = Buffer.from(`d6:lengthi5e4:name5:hello12:piece lengthi16384e6:pieces20:${"x".repeat(20)}e`);
const INFO_HASH = createHash("sha1").update(INFO).digest("hex");

/** Says hello in BitTorrent (BEP 3) and prints what comes back, in hexadecimal. */
const HANDSHAKE = `
const [address, port, hash] = process.argv.slice(1);
const socket = require("node:net").connect(Number(port), address);
socket.write(Buffer.concat([Buffer.from("\\x13BitTorrent protocol"), Buffer.alloc(8), Buffer.from(hash, "hex"), Buffer.from("-XX0000-123456789012")]));
socket.on("data", (data) => { console.log(data.toString("hex")); process.exit(); });
socket.on("error", (error) => { console.log(error.code); process.exit(); });
setTimeout(() => process.exit(), 2000);
`;

let lab: Lab;
let home: Home;
let gateway: HomeGateway;
let mine: Natbinder;
let theirs: Natbinder;
const running: Program[] = [];

beforeAll(async () => {
  lab = await Lab.create();
  home = await lab.home({ name: "home", nat: "port-restricted", hosts: ["alice", "bob"] });
  [, gateway] = await Promise.all([lab.host("outside"), HomeGateway.start(home)]);
  // On a busy machine half a second may be over before the gateway has said whose a port is.
  const env = { ISTHMUS_NATBINDER_WAIT_MS: "10000", ISTHMUS_NATBINDER_EXCLUDE: '[{"protocol":"tcp","port":9091}]' };
  [mine, theirs] = [new Natbinder(lab.node("alice"), { env }), new Natbinder(lab.node("bob"), { env })];
  await Promise.all([mine.start(), theirs.start()]);
});
afterAll(() => lab?.destroy());
afterEach(() => Promise.all(running.splice(0).map((program) => program.destroy())));

const entries = () => mappedPorts(home.router);

describe("the first use case of the paper: rTorrent, with every second port another host's", () => {
  /** An rTorrent with a home of its own. */
  function rtorrent(number: number): Program {
    const folder = ownFolder(lab.node("alice"), `rtorrent-${number}`);
    mkdirSync(join(folder, "session"), { mode: 0o777 });
    const session = ownFolder(lab.node("alice"), `rtorrent-${number}`, "session");
    const torrent = join(folder, "hello.torrent");
    ownFile(torrent, `d8:announce27:http://127.0.0.1:9/announce4:info${INFO.toString("latin1")}e`);
    const config = join(folder, "rc");
    ownFile(
      config,
      [
        `network.port_range.set = ${FIRST_PORT}-${LAST_PORT}`,
        "network.port_random.set = no",
        "network.port_open.set = yes",
        "system.daemon.set = true",
        "dht.mode.set = off",
        "trackers.use_udp.set = no",
        `session.path.set = ${session}`,
        `directory.default.set = ${folder}`,
        "",
      ].join("\n"),
    );
    return mine.run("rtorrent", ["-n", "-o", `import=${config}`, torrent], { env: { HOME: folder }, ends: true });
  }

  it("five get the even ports and answer the world; the sixth ends with words of its own", async () => {
    const other = new Binder(theirs.run(buildBinder(lab.node("bob").folder), [], { ends: true }));
    for (let port = FIRST_PORT + 1; port <= LAST_PORT; port += 2) await other.take("tcp4", port);
    const got: string[] = [];
    for (let number = 0; number < 5; number++) {
      running.push(rtorrent(number));
      got.push(`tcp ${FIRST_PORT + 2 * number}`);
      await mine.portsAre(got, 40_000);
    }
    const [alice, bob] = [lab.node("alice").ipv4, lab.node("bob").ipv4];
    expect(await entries()).toEqual(
      Array.from({ length: 10 }, (_, index) => `tcp ${FIRST_PORT + index} ${index % 2 === 0 ? alice : bob}`),
    );
    for (let number = 0; number < 5; number++) {
      const args = ["-e", HANDSHAKE, home.address, String(FIRST_PORT + 2 * number), INFO_HASH];
      await until(`a handshake of rTorrent ${number}`, async () => {
        const answer = Buffer.from((await lab.node("outside").read(NODE, args)).trim(), "hex").toString("latin1");
        return (answer.startsWith("\x13BitTorrent protocol") && answer.includes("-lt0D80-")) || undefined;
      });
    }

    const sixth = rtorrent(5);
    running.push(sixth);
    expect(await sixth.exited).toEqual({ code: 255, signal: null });
    expect(sixth.output.lastLines()).toContain(
      "rtorrent: Could not open/bind port for listening: Address already in use",
    );

    const [victim] = (await mine.status()).ports[0]!.owners;
    process.kill(victim!.pid, "SIGKILL");
    await mine.portsAre(got.slice(1));
    for (const program of running) program.kill();
    await Promise.all(running.map(({ exited }) => exited));
    await mine.portsAre([]);
    expect(await entries()).toEqual(
      Array.from({ length: 5 }, (_, index) => `tcp ${FIRST_PORT + 1 + 2 * index} ${bob}`),
    );
    await other.program.destroy();
    await theirs.portsAre([]);
  });
});

describe("the second use case of the paper: Transmission with its own forwarding, killed", () => {
  function args(node: Node, port: number): string[] {
    const folder = ownFolder(node, `transmission-${port}`);
    return ["-f", "-g", folder, "-w", folder, "-P", String(port), "-p", "9091", "--no-auth", "-m", "-O", "-Y"];
  }

  it("leaves its entries without us, and none with us", async () => {
    const [alice, bob] = [lab.node("alice"), lab.node("bob")];
    const plain = bob.spawn("transmission-daemon", args(bob, 51_413), { uid: ORDINARY_UID, ends: true });
    const wrapped = mine.run("transmission-daemon", args(alice, 51_414), { ends: true });
    await mine.portsAre(["tcp 51414", "udp 51414"], TRANSMISSION_MS);
    const left = [`tcp 51413 ${bob.ipv4}`, `udp 51413 ${bob.ipv4}`];
    await until(
      "Transmission has mapped its ports by itself",
      async () => {
        const seen = await entries();
        return left.every((entry) => seen.includes(entry)) || undefined;
      },
      TRANSMISSION_MS,
    );
    await wrapped.waitForOutput(
      /Port Forwarding.*forwarded|State changed.*[Ff]orwarded|now forwarded/i,
      TRANSMISSION_MS,
    );
    running.push(plain, wrapped);
    const [owner] = (await mine.status()).ports[0]!.owners;
    plain.kill("SIGKILL");
    process.kill(owner!.pid, "SIGKILL");
    await Promise.all([plain.exited, wrapped.exited]);
    await mine.portsAre([]);
    expect(await entries()).toEqual(left);
  });
});

describe("isthmus natbinder", () => {
  const json = async <T>(...args: string[]): Promise<T> => {
    const { code, stdout, stderr } = await mine.cli(args);
    if (code !== 0) throw new Error(stdout + stderr);
    return JSON.parse(stdout) as T;
  };

  it("shows, maps by hand, explains and unmaps", async () => {
    expect(await json("map", "20000/udp")).toMatchObject({
      port: 20_000,
      state: "mapped",
      owners: [{ byAdmin: true }],
    });
    expect(await entries()).toContain(`udp 20000 ${lab.node("alice").ipv4}`);
    expect(await json("status")).toMatchObject({
      gateway: { kind: "upnp", address: gateway.address, externalAddress: home.address },
      ports: [{ protocol: "udp", port: 20_000, state: "mapped" }],
    });
    expect(await json("explain", "20000/udp")).toMatchObject({ wanted: { state: "mapped" }, entry: { own: true } });
    expect(await json("explain", "9091")).toMatchObject({ excluded: "excluded" });
    const one = new Binder(mine.run(buildBinder(lab.node("alice").folder), [], { ends: true }));
    await one.take("tcp4", 20_001);
    expect(await mine.cli(["unmap", "20001"])).toMatchObject({ code: 1 });
    // A mapping by hand outlives natbinder.
    await mine.kill();
    await mine.start();
    await mine.portsAre(["udp 20000", "tcp 20001"]);
    await json("unmap", "20000/udp");
    await mine.portsAre(["tcp 20001"]);
    await one.program.destroy();
    await mine.portsAre([]);
  });

  it("is refused to other users", async () => {
    const { code, stderr } = await lab
      .node("alice")
      .run("curl", ["-sS", "--unix-socket", mine.adminSocket, "http://n/v1/status"], {
        uid: ORDINARY_UID - 1,
      });
    expect({ code, stderr }).toEqual({ code: 7, stderr: expect.stringContaining("connect") as string });
  });
});

it("a disk that cannot be written is said, and what a crash would lose is all that is lost", async () => {
  const node = lab.node("bob");
  const folder = ownFolder(node, "full");
  await theirs.stop();
  await node.script(`mount -t tmpfs -o size=16k,mode=0777 full ${folder}`);
  writeFileSync(join(folder, "ballast"), "");
  await node.script(`dd if=/dev/zero of=${join(folder, "ballast")} bs=4k 2>/dev/null || true`);
  try {
    const full = await new Natbinder(node, { state: folder }).start();
    const one = new Binder(full.run(buildBinder(node.folder), [], { ends: true }));
    await one.take("tcp4", 20_010);
    await full.portsAre(["tcp 20010"]);
    expect((await full.status()).diskTrouble).toMatch(/ENOSPC|no space/);
    await node.script(`rm ${join(folder, "ballast")}`);
    await until("it is on disk again", async () => (await full.status()).diskTrouble === undefined || undefined);
    await one.program.destroy();
    await full.portsAre([]);
    await full.stop();
  } finally {
    await node.script(`umount ${folder}`);
  }
});
