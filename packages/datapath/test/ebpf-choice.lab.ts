import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { silentLogger } from "@isthmus/service";
import { afterEach, beforeEach, expect, it, onTestFinished } from "vitest";
import { DEFAULT_PORTS, type Driver, openDataPath, SocketSplicer } from "../src/index.ts";
import { SPEC } from "./one-cell.ts";

const NO_MODULE = "the kernel's data path cannot be used: the module ist_splice is not loaded";
const PROGRAMS = "the BPF data path cannot be used: ";
const CHILD = fileURLToPath(new URL("./vm/child/choose.ts", import.meta.url));

beforeEach(() => {
  execFileSync("ip", ["link", "add", "outer", "type", "veth", "peer", "name", "inner"]);
});

afterEach(() => {
  execFileSync("ip", ["link", "del", "outer"]);
  execFileSync("sh", ["-c", "tc qdisc del dev lo clsact 2>&1 || true"]);
});

async function choose(driver: Driver = "auto") {
  const { dataPath, capabilities, reason } = await openDataPath(
    { driver, logger: silentLogger(), splicer: new SocketSplicer(), bind: [] },
    { ports: DEFAULT_PORTS, udpIdleMs: 60_000, onEvent: () => undefined },
  );
  onTestFinished(() => dataPath.close());
  return { dataPath, name: capabilities.name, reason };
}

function filters(device = "lo"): string {
  return execFileSync("tc", ["filter", "show", "dev", device, "ingress"], { encoding: "utf8" });
}

/** What a process gets that starts with these privileges and no other. */
function chooseWith(...capabilities: string[]): unknown {
  const caps = capabilities.map((name) => `+${name}`).join(",");
  const only = ["--inh-caps", `-all,${caps}`, "--bounding-set", `-all,${caps}`].map((text) => text.replace(/,$/, ""));
  const node = [process.execPath, "--conditions=source", CHILD, "as-it-is"];
  return JSON.parse(execFileSync("setpriv", [...only, "--no-new-privs", ...node], { encoding: "utf8" }));
}

/** The newer kind of filter: lets everything pass. Of bpf(2), since this host's bpftool does not know it. */
const ATTACH_TCX = `
use Config;
use constant BPF => $Config{archname} =~ /x86_64/ ? 321 : 280;
my $insns = pack("CCsl" x 2, 0xb7, 0, 0, -1, 0x95, 0, 0, 0);
my $licence = "GPL\\0";
my $attr = pack("LLQQLLQLL", 3, 2, unpack("Q", pack("P", $insns)), unpack("Q", pack("P", $licence)), 0, 0, 0, 0, 0);
my $program = syscall(BPF, 5, $attr, length $attr);
die "load: $!" if $program < 0;
my $attach = pack("LLLLLLLL", $ARGV[0], $program, 46, 0, 0, 0, 0, 0);
die "attach: $!" if syscall(BPF, 8, $attach, length $attach) < 0;
`;

/** Starts a program with all privileges to which bpf(2) is refused by seccomp, as in most containers. */
const WITHOUT_BPF = `
use Config;
my ($prctl, $bpf) = $Config{archname} =~ /x86_64/ ? (157, 321) : (167, 280);
my $filter = pack("SCCL" x 4, 0x20, 0, 0, 0, 0x15, 0, 1, $bpf, 0x06, 0, 0, 0x00050001, 0x06, 0, 0, 0x7fff0000);
my $program = pack("Sx6P", 4, $filter);
die "privileges: $!" if syscall($prctl, 38, 1, 0, 0, 0);
die "filter: $!" if syscall($prctl, 22, 2, $program, 0, 0);
exec @ARGV or die "exec: $!";
`;

it("auto is BPF where there is no module, and leaves nothing behind when it has nothing to keep", async () => {
  const { dataPath, ...chosen } = await choose();
  expect(chosen).toEqual({ name: "ebpf", reason: NO_MODULE });
  expect(filters("outer")).toContain("ist_splice");
  await dataPath.close();
  expect(["lo", "outer", "inner"].map(filters)).toEqual(["", "", ""]);
});

it.each([
  [
    "another tool's filter of tc",
    "(tc)",
    () => {
      execFileSync("sh", [
        "-c",
        "tc qdisc add dev outer clsact && tc filter add dev outer ingress bpf bytecode '1,6 0 0 0'",
      ]);
    },
  ],
  [
    "another tool's filter of tcx",
    "(tcx)",
    () => {
      const index = execFileSync("ip", ["-o", "link", "show", "outer"], { encoding: "utf8" }).split(":")[0]!;
      execFileSync("perl", ["-e", ATTACH_TCX, index]);
    },
  ],
] as const)("auto is user space beside %s, which stays", async (_, kind, attach) => {
  attach();
  const foreign = `another program filters the incoming packets of interface outer ${kind}`;
  expect(await choose()).toMatchObject({ name: "userspace", reason: `${NO_MODULE}; ${PROGRAMS}${foreign}` });
  await expect(choose("ebpf")).rejects.toThrow(PROGRAMS + foreign);
  expect(filters()).toBe("");
  if (kind === "(tc)") expect(filters("outer")).toContain("bytecode");
});

it("auto is user space for a process that lacks privileges, and says which", () => {
  const lacks = `${PROGRAMS}this process lacks`;
  expect(chooseWith()).toEqual({
    name: "userspace",
    reason: `${NO_MODULE}; ${lacks} CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_ADMIN`,
  });
  expect(chooseWith("bpf", "perfmon", "net_admin", "net_raw")).toEqual({
    name: "userspace",
    reason: `${NO_MODULE}; ${lacks} CAP_SYS_ADMIN`,
  });
  expect(chooseWith("sys_admin", "net_admin", "net_raw")).toEqual({ name: "ebpf", reason: NO_MODULE });
});

it("auto is user space where the kernel refuses the programs, and says so in one line", () => {
  const node = [process.execPath, "--conditions=source", CHILD, "as-it-is"];
  const said = execFileSync("perl", ["-e", WITHOUT_BPF, ...node], { encoding: "utf8" });
  expect(JSON.parse(said)).toEqual({
    name: "userspace",
    reason: expect.stringMatching(
      new RegExp(`^${NO_MODULE}; ${PROGRAMS}the BPF programs cannot be loaded: Operation not permitted[^\n]*$`),
    ),
  });
});

it("auto is refused beside another IST, whose programs stay", async () => {
  await choose("ebpf");
  const said = `${PROGRAMS}another IST uses the BPF data path (it holds the lock 'isthmus-ist-ebpf')`;
  await expect(choose()).rejects.toThrow(said);
  await choose("userspace");
  expect(filters()).toContain("ist_splice");
});

it("user space takes off what an IST left behind: it would take the packets of cells", async () => {
  const { dataPath } = await choose();
  await dataPath.allocate(SPEC);
  await dataPath.close();
  expect(filters()).toContain("ist_splice");
  await choose("userspace");
  expect(["lo", "outer", "inner"].map(filters)).toEqual(["", "", ""]);
});
