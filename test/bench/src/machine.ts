import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { availableParallelism, cpus, release, totalmem } from "node:os";
import { join } from "node:path";
import { hasFastAes, implementation } from "@isthmus/native";

/** The rivals from npm. */
const RIVALS = JSON.parse(readFileSync(join(import.meta.dirname, "../peers/package.json"), "utf8")) as {
  dependencies: Record<string, string>;
};

export interface Machine {
  cpu: string;
  cores: number;
  memoryBytes: number;
  kernel: string;
  system: string;
  node: string;
  openssl: string;
  /** What seals records: the native add-on or node:crypto. */
  sealing: string;
  hasFastAes: boolean;
  haproxy: string;
  ssh: string;
  iperf3: string;
  /** Other rivals, each with its version. */
  others?: string[];
}

export function describeMachine(): Machine {
  const rtpengine = /^Version: (\S+)/.exec(outputOf("rtpengine", ["--version"]))?.[1];
  return {
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    kernel: release(),
    system: /^PRETTY_NAME="(.*)"$/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1] ?? "unknown",
    node: process.version,
    openssl: process.versions.openssl ?? "unknown",
    sealing: implementation,
    hasFastAes: hasFastAes(),
    haproxy: firstLine("haproxy", ["-v"]),
    ssh: firstLine("ssh", ["-V"]),
    iperf3: firstLine("iperf3", ["--version"]),
    others: [
      firstLine("nginx", ["-v"]).replace("nginx version: nginx/", "nginx "),
      `coturn ${firstLine("turnserver", ["--version"])}`,
      /socat version [^ ]+/.exec(outputOf("socat", ["-V"]))?.[0] ?? "",
      // Not installed where nothing is compared with it.
      ...(rtpengine === undefined ? [] : [`rtpengine ${rtpengine}`]),
      ...["libp2p", "hyperdht"].map((name) => `${name} ${RIVALS.dependencies[name]}`),
    ],
  };
}

function firstLine(program: string, args: string[]): string {
  return outputOf(program, args).split("\n")[0]?.trim() ?? "";
}

function outputOf(program: string, args: string[]): string {
  const { stdout, stderr } = spawnSync(program, args, { encoding: "utf8" });
  return `${stdout ?? ""}${stderr ?? ""}`;
}
