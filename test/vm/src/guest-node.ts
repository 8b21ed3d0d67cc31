import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  asUser,
  type Capture,
  type CaptureOptions,
  type CommandResult,
  type Lab,
  NETNS_FOLDER,
  Node,
  ORDINARY_UID,
  Program,
  type RunOptions,
  type SpawnOptions,
  WORLD_FOLDER,
} from "@isthmus/lab";
import { GuestProcess } from "./guest-process.ts";
import { quoted } from "./shell.ts";
import { VirtualMachine, type VirtualMachineOptions } from "./virtual-machine.ts";
import { VmError } from "./vm-error.ts";

/** The two ports of the switch in the node's namespace; the guest's own card is called like the cable. */
const TAP = "guest";
const CABLE = "eth0";
/** Of the cable's end at the switch: its own has become the guest's. */
const SWITCH_MAC = "02:15:74:ff:00:01";
/** Emulation makes Node start some ten times later, and a busy host later than that. */
const SLOWNESS = 8;
const COMMAND_MS = 120_000;

let runs = 0;

/**
 * A host of a laboratory that is a virtual machine: another kernel at the end of the same cable, so that all that
 * can be done to a link can be done to its. What was the host's namespace holds a switch between cable and machine.
 */
export class GuestNode extends Node {
  override readonly slowness = SLOWNESS;
  readonly machine: VirtualMachine;
  readonly #outside: Node;

  private constructor(outside: Node, machine: VirtualMachine) {
    super(outside);
    this.machine = machine;
    this.#outside = outside;
    this.addresses.ipv4 = outside.addresses.ipv4;
    this.addresses.ipv6 = outside.addresses.ipv6;
    this.link = outside.link;
  }

  /** Turns a host of the laboratory, public or in a home, on which nothing runs yet, into a virtual machine. */
  static async replace(lab: Lab, name: string, options: Omit<VirtualMachineOptions, "card"> = {}): Promise<GuestNode> {
    const outside = lab.node(name);
    const { near } = outside.link.cable;
    if (near.device !== CABLE) throw new VmError(`${name} is no host`);
    const netns = join(NETNS_FOLDER, outside.netns);
    const card = { netns, tap: TAP, mac: near.mac };
    // What a machine leaves behind when it is killed vanishes with the laboratory's world.
    // The other hosts have deadlines for what it says, and are not nice to it.
    const machine = await VirtualMachine.boot({ within: WORLD_FOLDER, niceness: 0, ...options, card });
    const node = new GuestNode(outside, machine);
    lab.nodes.set(name, node);
    if (lab.hosts.has(name)) lab.hosts.set(name, node);
    for (const { hosts } of lab.homes.values()) {
      const at = hosts.indexOf(outside);
      if (at !== -1) hosts[at] = node;
    }
    await outside.script(`
ip link set ${CABLE} down
ip addr flush dev ${CABLE}
ip link set ${CABLE} address ${SWITCH_MAC}
ip link add switch type bridge mcast_snooping 0
for device in switch ${CABLE} ${TAP}; do echo 1 >/proc/sys/net/ipv6/conf/$device/disable_ipv6; done
ip link set ${CABLE} master switch up
ip link set ${TAP} master switch up
ip link set switch up
`);
    await node.script(`
mkdir -p ${node.folder}
chown ${ORDINARY_UID}:${ORDINARY_UID} ${node.folder}
ip -batch - <<'END'
${node.link.nearLines().join("\n")}
END
`);
    return node;
  }

  override async run(command: string, args: string[] = [], options: RunOptions = {}): Promise<CommandResult> {
    const name = `run-${++runs}`;
    const files = ["in", "out", "err"].map((kind) => join(this.machine.share, `${name}.${kind}`));
    const [input, stdout, stderr] = files as [string, string, string];
    writeFileSync(input, options.input ?? "");
    const inGuest = `${this.machine.guestShare}/${name}`;
    const words = quoted(this.#words(command, args, options));
    const script = `exec ${words} <${inGuest}.in >${inGuest}.out 2>${inGuest}.err`;
    try {
      const { status } = await this.machine.run(script, (options.timeoutMs ?? COMMAND_MS) * this.slowness);
      return { stdout: readText(stdout), stderr: readText(stderr), code: status };
    } finally {
      for (const file of files) rmSync(file, { force: true });
    }
  }

  override spawn(command: string, args: string[] = [], options: SpawnOptions = {}): Program {
    const process = new GuestProcess(this.machine, this.#words(command, args, options), options);
    const program = new Program(process, {
      name: `${options.name ?? command} on ${this.name}`,
      ends: options.ends,
    });
    this.programs.push(program);
    return program;
  }

  /** Records what passes the cable: what the machine sends and gets. */
  override capture(options: CaptureOptions = {}): Promise<Capture> {
    return this.#outside.capture(options);
  }

  override async stopAll(): Promise<void> {
    const ends = this.programs.map((program) => program.destroy());
    await this.machine.stop();
    await Promise.all(ends);
    await this.#outside.stopAll();
  }

  #words(command: string, args: string[], options: RunOptions | SpawnOptions): string[] {
    const environment = Object.entries(this.environment(options)).map(([name, value]) => `${name}=${value}`);
    const folder = options.cwd ?? "/";
    const user = options.uid === undefined ? [] : ["setpriv", ...asUser(options.uid), "--"];
    return ["env", "-i", "-C", folder, ...environment, ...user, command, ...args];
  }
}

/** Absent when the shell could not even open it. */
function readText(file: string): string {
  return existsSync(file) ? readFileSync(file, "utf8") : "";
}
