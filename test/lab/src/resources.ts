import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** What one process uses at this moment. Its children are not counted. */
export interface Resources {
  /** Resident memory. */
  rssBytes: number;
  /** The most it ever was. */
  peakRssBytes: number;
  userSeconds: number;
  systemSeconds: number;
  threads: number;
  /** Open file descriptors, sockets among them. */
  descriptors: number;
  sockets: number;
}

/** USER_HZ, which Linux fixes for all that user space sees. */
const TICKS_PER_SECOND = 100;

/** @throws when the process is gone */
export function readResources(pid: number): Resources {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const number = (field: string) => Number(new RegExp(`^${field}:\\s+(\\d+)`, "m").exec(status)?.[1] ?? 0);
  // Field 2 of stat is the name in parentheses and may itself hold spaces: count from behind it.
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const descriptors = readdirSync(`/proc/${pid}/fd`);
  return {
    rssBytes: number("VmRSS") * 1024,
    peakRssBytes: number("VmHWM") * 1024,
    userSeconds: Number(fields[11]) / TICKS_PER_SECOND,
    systemSeconds: Number(fields[12]) / TICKS_PER_SECOND,
    threads: number("Threads"),
    descriptors: descriptors.length,
    sockets: descriptors.filter((descriptor) => isSocket(`/proc/${pid}/fd/${descriptor}`)).length,
  };
}

function isSocket(path: string): boolean {
  try {
    return readlinkSync(path).startsWith("socket:");
  } catch {
    return false;
  }
}
