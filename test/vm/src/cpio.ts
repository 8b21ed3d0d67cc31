/** A file of an archive: its path without a leading slash, and its mode as `stat` has it. */
export interface CpioEntry {
  path: string;
  mode: number;
  content?: Uint8Array;
}

const TRAILER = "TRAILER!!!";
const ALIGNMENT = 4;

/** An archive in the "newc" format, which the kernel unpacks as its first root (see cpio(5)). */
export function cpio(entries: readonly CpioEntry[]): Buffer {
  const parts = [...entries, { path: TRAILER, mode: 0 }].flatMap((entry, index) => {
    const content = entry.content ?? new Uint8Array();
    const name = Buffer.from(`${entry.path}\0`);
    // Inode, mode, uid, gid, links, time, size, device (two numbers, twice), size of the name, checksum.
    const fields = [index + 1, entry.mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length, 0];
    const header = `070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`;
    const head = Buffer.concat([Buffer.from(header), name]);
    return [head, padding(head.length), content, padding(content.length)];
  });
  return Buffer.concat(parts);
}

function padding(length: number): Uint8Array {
  return new Uint8Array((ALIGNMENT - (length % ALIGNMENT)) % ALIGNMENT);
}
