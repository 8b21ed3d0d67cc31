import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { HomeGateway, Natbinder, until } from "@isthmus/e2e";
import { Lab, ORDINARY_UID } from "@isthmus/lab";
import { expect, it } from "vitest";
import { BINDER_SOURCE, Binder, buildBinder } from "./fixtures/binder.ts";
import { mappedPorts } from "./fixtures/mapped-ports.ts";

/** A container with one program and nothing else, in the network of whoever starts it. */
function bundle(folder: string, listenerPath: string): string {
  const rootfs = join(folder, "rootfs");
  mkdirSync(rootfs, { recursive: true });
  execFileSync("gcc", ["-O1", "-static", "-pthread", BINDER_SOURCE, "-o", join(rootfs, "binder")]);
  const config = {
    ociVersion: "1.0.2",
    root: { path: "rootfs", readonly: true },
    process: {
      user: { uid: ORDINARY_UID, gid: ORDINARY_UID },
      cwd: "/",
      args: ["/binder"],
      noNewPrivileges: true,
      capabilities: { bounding: [], effective: [], permitted: [] },
    },
    mounts: [{ destination: "/proc", type: "proc", source: "proc" }],
    linux: {
      namespaces: [{ type: "pid" }, { type: "mount" }, { type: "ipc" }, { type: "uts" }],
      seccomp: {
        defaultAction: "SCMP_ACT_ALLOW",
        listenerPath,
        syscalls: [{ names: ["bind"], action: "SCMP_ACT_NOTIFY" }],
      },
    },
  };
  mkdirSync(join(rootfs, "proc"), { recursive: true });
  writeFileSync(join(folder, "config.json"), JSON.stringify(config));
  return folder;
}

it("a container's ports are mapped, another host's are in use to it, and none stays when it is killed", async () => {
  await using lab = await Lab.create();
  const home = await lab.home({ name: "home", nat: "port-restricted", hosts: ["alice", "bob"] });
  await HomeGateway.start(home);
  const [alice, bob] = [lab.node("alice"), lab.node("bob")];
  const env = { ISTHMUS_NATBINDER_WAIT_MS: "10000" };
  const natbinders = [new Natbinder(alice, { env }), new Natbinder(bob, { env })] as const;
  await Promise.all(natbinders.map((one) => one.start()));
  const [mine, theirs] = natbinders;
  const socket = join(alice.folder, "containers.sock");
  alice.spawn("sh", [...mine.containersCommand, socket], { env });
  await until(
    "the socket of containers",
    async () => (await alice.run("test", ["-S", socket])).code === 0 || undefined,
  );
  const other = new Binder(theirs.run(buildBinder(bob.folder), [], { ends: true }));
  await other.take("tcp4", 12_000);

  const folder = bundle(join(alice.folder, "bundle"), socket);
  const args = ["--root", join(alice.folder, "runc"), "run", "--bundle", folder, `isthmus-${process.pid}`];
  const container = alice.spawn("runc", args, { stdin: "pipe", ends: true });
  const one = new Binder(container);
  const tcp = await one.open("tcp4");
  expect(await one.bind(tcp, 12_000)).toMatchObject({ result: "EADDRINUSE" });
  expect(await one.bind(tcp, 12_001)).toMatchObject({ result: "ok" });
  await one.take("udp6", 12_002);
  expect(await mappedPorts(home.router)).toEqual([
    `tcp 12000 ${bob.ipv4}`,
    `tcp 12001 ${alice.ipv4}`,
    `udp 12002 ${alice.ipv4}`,
  ]);
  const { ports } = await mine.status();
  const [owner] = ports[0]!.owners;
  expect(owner).toMatchObject({ program: "binder" });
  process.kill(owner!.pid, "SIGKILL");
  await container.exited;
  await mine.portsAre([]);
  expect(await mappedPorts(home.router)).toEqual([`tcp 12000 ${bob.ipv4}`]);
});
