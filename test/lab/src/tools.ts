import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { LabError } from "./lab-error.ts";

/** What a laboratory is made with, and the Debian package of each. */
const DEBIAN_PACKAGES = {
  ip: "iproute2",
  nft: "nftables",
  conntrack: "conntrack",
  ping: "iputils-ping",
  tcpdump: "tcpdump",
  curl: "curl",
  gcc: "gcc",
  mount: "mount",
  unshare: "util-linux",
  nsenter: "util-linux",
  setpriv: "util-linux",
} as const;

export type Tool = keyof typeof DEBIAN_PACKAGES;

/** Root's tools, which an ordinary PATH leaves out. */
const ROOT_FOLDERS = ["/usr/sbin", "/sbin"];

/** PATH with root's folders. */
export function searchPath(): string {
  const folders = (process.env.PATH ?? "").split(delimiter);
  return [...folders, ...ROOT_FOLDERS.filter((folder) => !folders.includes(folder))].join(delimiter);
}

export function isInstalled(tool: Tool): boolean {
  return locate(tool) !== undefined;
}

/** The tool's file. @throws LabError naming the Debian package to install */
export function findTool(tool: Tool): string {
  const file = locate(tool);
  if (file === undefined) throw new LabError(`${tool} is missing (Debian package ${DEBIAN_PACKAGES[tool]})`);
  return file;
}

/** @throws LabError naming everything that is missing, with the command that installs it */
export function checkTools(): void {
  const missing = (Object.keys(DEBIAN_PACKAGES) as Tool[]).filter((tool) => !isInstalled(tool));
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map((tool) => DEBIAN_PACKAGES[tool]))];
  throw new LabError(`missing: ${missing.join(", ")}. Install with: apt-get install ${packages.join(" ")}`);
}

function locate(tool: Tool): string | undefined {
  return searchPath()
    .split(delimiter)
    .map((folder) => join(folder, tool))
    .find(isExecutable);
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
