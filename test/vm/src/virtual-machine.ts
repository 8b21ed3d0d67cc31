import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { createInterface } from "node:readline";
import { complaintsIn } from "./complaints.ts";
import { GUEST_SHARE, initramfs } from "./initramfs.ts";
import { installedKernels, type Kernel } from "./kernel.ts";
import type { KernelModule } from "./kernel-module.ts";
import { VmError } from "./vm-error.ts";

/** A guest is up in 5 to 20 s, or in minutes when the host has no time for it. One that is not is started once more. */
const BOOT_MS = 240_000;
const COMMAND_MS = 120_000;
const NICENESS = 10;
const HALT_MS = 20_000;
const CONSOLE_TAIL = 4000;
/** As many as a report with its stack has. */
const CONSOLE_MS = 500;
/**
 * The kernel measures its timer against another one for a tenth of a second; when the host lets many ticks arrive at once
 * meanwhile, everything that waits afterwards takes a hundred times as long.
 */
const MEASURED = /APIC calibration not consistent with PM-Timer: (\d+)ms/;
const MEASURED_MS = 100;
/** How much longer everything may take on a kernel that checks each access to memory. */
const DEBUG_PATIENCE = 6;
/** An object counts as leaked when it is that old and nothing points at it. */
const LEAK_AGE_S = 6;

/** A network card of the guest (its eth0, eth1 and so on): the other end of the cable is a TAP device of this host. */
interface NetworkCard {
  /** File of the network namespace in which the TAP device appears. */
  netns: string;
  /** Name of the TAP device, which is there as long as the machine runs. */
  tap: string;
  /** The guest's address. */
  mac: string;
}

export interface VirtualMachineOptions {
  /** By default the oldest that is installed. */
  kernel?: Kernel;
  cpus?: number;
  memoryMiB?: number;
  /**
   * The guest's clock counts instructions, so that times in it compare work and not the host's mood. One CPU, and only
   * for measurements inside the guest.
   */
  countInstructions?: boolean;
  /** Further words of the kernel's command line. */
  kernelArguments?: readonly string[];
  /** Further words of QEMU's command line, for devices. */
  qemuArguments?: readonly string[];
  /** By default it has none. */
  card?: NetworkCard;
  /** 10 otherwise: whatever else this host does comes first. */
  niceness?: number;
  /** Where it keeps a folder of its own for as long as it runs; by default among this host's temporary files. */
  within?: string;
}

export interface CommandResult {
  readonly status: number;
  /** Standard output and standard error, as they came. */
  readonly output: string;
}

class MeasuredWrong extends VmError {
  override name = "MeasuredWrong";

  constructor() {
    super("the guest's timer was measured wrong, since the host is busy");
  }
}

class TimedOut extends VmError {
  override name = "TimedOut";
}

interface Running {
  resolve(status: number): void;
  reject(error: Error): void;
}

/**
 * A virtual machine under QEMU's emulation: another kernel over the host's own files, which it reads and never changes
 * (writes stay in its memory). It ends with this process.
 */
export class VirtualMachine implements AsyncDisposable {
  readonly kernel: Kernel;
  readonly #folder: string;
  readonly #qemu: ChildProcess;
  readonly #running = new Map<string, Running>();
  #commands = 0;
  #failure: VmError | undefined;

  private constructor(kernel: Kernel, folder: string, qemu: ChildProcess) {
    this.kernel = kernel;
    this.#folder = folder;
    this.#qemu = qemu;
    createInterface({ input: qemu.stdout! }).on("line", (line) => this.#onLine(line));
    let complaints = "";
    qemu.stderr!.on("data", (chunk: Buffer) => {
      complaints += chunk.toString();
    });
    qemu.on("error", (error) => this.#fail(new VmError("qemu-system-x86_64 does not start", { cause: error })));
    qemu.on("exit", () => this.#fail(new VmError(`the virtual machine ended\n${complaints}${this.#consoleTail()}`)));
  }

  /** @throws VmError when there is no kernel, no QEMU, or the guest does not come up */
  static async boot(options: VirtualMachineOptions = {}): Promise<VirtualMachine> {
    const kernel = options.kernel ?? installedKernels()[0];
    if (!kernel) {
      throw new VmError("no kernel with image and headers (Debian packages linux-image-amd64, linux-headers-amd64)");
    }
    try {
      return await VirtualMachine.#boot(kernel, options);
    } catch (error) {
      if (error instanceof TimedOut) return VirtualMachine.#boot(kernel, options);
      if (!(error instanceof MeasuredWrong)) throw error;
      // Without that timer, and so without fine ones, there is nothing to measure.
      const kernelArguments = [...(options.kernelArguments ?? []), "noapictimer"];
      return VirtualMachine.#boot(kernel, { ...options, kernelArguments });
    }
  }

  static async #boot(kernel: Kernel, options: VirtualMachineOptions): Promise<VirtualMachine> {
    const folder = mkdtempSync(join(options.within ?? tmpdir(), "isthmus-vm-"));
    let qemu: ChildProcess | undefined;
    let watch: NodeJS.Timeout | undefined;
    try {
      writeFileSync(join(folder, "initramfs"), initramfs(kernel));
      const launcher = [
        ...(options.card ? ["nsenter", `--net=${options.card.netns}`] : []),
        ...["setpriv", "--pdeathsig", "KILL", "nice", "-n", String(options.niceness ?? NICENESS)],
      ];
      const [command, ...args] = [...launcher, ...qemuCommand(kernel, folder, options)];
      qemu = spawn(command!, args, { stdio: ["pipe", "pipe", "pipe"] });
      const machine = new VirtualMachine(kernel, folder, qemu);
      watch = setInterval(() => {
        const ms = MEASURED.exec(machine.console())?.[1];
        if (ms !== undefined && Math.abs(Math.log2(Number(ms) / MEASURED_MS)) > 1) machine.#fail(new MeasuredWrong());
      }, CONSOLE_MS);
      await machine.#wait("ready", BOOT_MS);
      return machine;
    } catch (error) {
      if (qemu?.kill("SIGKILL")) await once(qemu, "exit");
      rmSync(folder, { recursive: true, force: true });
      throw error;
    } finally {
      clearInterval(watch);
    }
  }

  /**
   * Runs a shell script in the guest, as root, in the host's file system. Several may run at once.
   * @param timeoutMs after which this throws; the script itself goes on
   */
  async run(script: string, timeoutMs = COMMAND_MS): Promise<CommandResult> {
    const id = `command-${++this.#commands}`;
    writeFileSync(join(this.#folder, `${id}.sh`), script);
    if (this.#failure) throw this.#failure;
    const done = this.#wait(id, this.kernel.isDebug ? timeoutMs * DEBUG_PATIENCE : timeoutMs);
    this.#qemu.stdin!.write(`${id}\n`);
    const status = await done;
    return { status, output: this.#readShared(`${id}.out`) };
  }

  /** Like {@link run}. @returns the output @throws VmError when the status is not zero */
  async check(script: string, timeoutMs?: number): Promise<string> {
    const { status, output } = await this.run(script, timeoutMs);
    if (status !== 0) throw new VmError(`status ${status} of\n${script}\n${output}${this.#consoleTail()}`);
    return output;
  }

  /** Loads one of the repository's own modules, after those that it needs. */
  async load({ file }: KernelModule, parameters = ""): Promise<void> {
    await this.check(`
      for needed in $(/sbin/modinfo -F depends '${file}' | tr , ' '); do /sbin/modprobe "$needed" || exit 1; done
      /sbin/insmod '${file}' ${parameters}
    `);
  }

  /** A folder of the host's that the guest sees, and may write, at {@link guestShare}. */
  get share(): string {
    return this.#folder;
  }

  readonly guestShare = GUEST_SHARE;

  /** Compiles programs in C, of a file each, into {@link share}; where a warning comes up, this throws. */
  compile(...sources: string[]): void {
    for (const source of sources) {
      const program = join(this.share, basename(source, ".c"));
      execFileSync("gcc", ["-O2", "-Wall", "-Wextra", "-Werror", "-o", program, source]);
    }
  }

  /** Everything that the kernel wrote so far. */
  console(): string {
    return this.#readShared("console");
  }

  /**
   * What the kernel complained about: oopses, warnings, reports of its debugging options, leaks. Each with the lines behind
   * it, which say where.
   */
  complaints(): string[] {
    return complaintsIn(this.console().split("\n"));
  }

  /** Memory that nothing points at any more, with where it was asked for. Of the debug kernel; empty on others. */
  async leaks(): Promise<string> {
    if (!this.kernel.isDebug) return "";
    return this.check(`
      report=/sys/kernel/debug/kmemleak
      echo scan >$report && sleep ${LEAK_AGE_S} && echo scan >$report && cat $report
    `);
  }

  async stop(): Promise<void> {
    if (this.#qemu.exitCode === null && this.#qemu.signalCode === null) {
      const exited = once(this.#qemu, "exit");
      this.#qemu.stdin!.write("halt\n");
      // The debug kernel knows no way to switch a machine off.
      const timer = setTimeout(() => this.#qemu.kill("SIGKILL"), this.kernel.isDebug ? 0 : HALT_MS);
      await exited;
      clearTimeout(timer);
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  #onLine(line: string): void {
    const [id = "", status = "0"] = line.trim().split(" ");
    const running = this.#running.get(id);
    this.#running.delete(id);
    running?.resolve(Number(status));
  }

  #wait(id: string, timeoutMs: number): Promise<number> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#running.delete(id);
        const output = this.#readShared(`${id}.out`);
        reject(new TimedOut(`the guest did not end "${id}" within ${timeoutMs} ms\n${output}${this.#consoleTail()}`));
      }, timeoutMs);
      this.#running.set(id, {
        resolve: (status) => {
          clearTimeout(timer);
          resolve(status);
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      });
    });
  }

  #fail(error: VmError): void {
    this.#failure = error;
    for (const { reject } of this.#running.values()) reject(error);
    this.#running.clear();
  }

  #readShared(name: string): string {
    const path = join(this.#folder, name);
    return existsSync(path) ? readFileSync(path, "utf8") : "";
  }

  #consoleTail(): string {
    return `\nconsole:\n${this.#readShared("console").slice(-CONSOLE_TAIL)}`;
  }
}

function qemuCommand(kernel: Kernel, folder: string, options: VirtualMachineOptions): string[] {
  const {
    cpus = 2,
    memoryMiB = kernel.isDebug ? 2048 : 1024,
    countInstructions = false,
    kernelArguments = [],
    qemuArguments = [],
    card,
  } = options;
  const virtfs = (path: string, tag: string, more: string): string[] => [
    "-virtfs",
    `local,path=${path},mount_tag=${tag},security_model=none,multidevs=remap${more}`,
  ];
  return [
    "qemu-system-x86_64",
    "-accel",
    countInstructions ? "tcg,thread=single" : "tcg,thread=multi",
    ...(countInstructions ? ["-icount", "shift=1,sleep=off"] : []),
    "-cpu",
    "max",
    "-smp",
    String(countInstructions ? 1 : cpus),
    "-m",
    String(memoryMiB),
    "-display",
    "none",
    "-monitor",
    "none",
    "-no-reboot",
    "-nic",
    "none",
    "-kernel",
    kernel.image,
    "-initrd",
    join(folder, "initramfs"),
    "-append",
    // On a busy host the emulated timer can seem not to work at the moment at which the kernel tests it.
    ["console=ttyS0", "panic=-1", "oops=panic", "loglevel=5", "no_timer_check", ...kernelArguments].join(" "),
    "-serial",
    `file:${join(folder, "console")}`,
    "-chardev",
    "stdio,id=orders,signal=off",
    "-device",
    "virtio-serial-pci",
    "-device",
    "virtserialport,chardev=orders,name=orders",
    ...virtfs("/", "hostroot", ",readonly=on"),
    ...virtfs(folder, "share", ""),
    // After the others: the guest knows the port of orders by its being on the first device of virtio.
    ...(card ? networkCard(card) : []),
    ...qemuArguments,
  ];
}

function networkCard({ tap, mac }: NetworkCard): string[] {
  return [
    "-netdev",
    `tap,id=cable,ifname=${tap},script=no,downscript=no`,
    "-device",
    // Nothing is started from the network, so that no program for it is needed.
    `virtio-net-pci,netdev=cable,mac=${mac},romfile=`,
  ];
}
