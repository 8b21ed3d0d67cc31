import { existsSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import { type CpioEntry, cpio } from "./cpio.ts";
import { type Kernel, moduleFiles, readModule } from "./kernel.ts";
import { VmError } from "./vm-error.ts";

const BUSYBOX = "/bin/busybox";
/** What it takes to see the host's files, and the network card; everything else is loaded from there. */
const MODULES = ["virtio_pci", "virtio_console", "virtio_net", "9pnet_virtio", "9p", "overlay"];

const DIRECTORY = 0o040755;
const PROGRAM = 0o100755;
const FILE = 0o100644;

/** Where the folder that host and guest share appears in the guest. */
export const GUEST_SHARE = "/mnt/isthmus-vm";

/**
 * The guest's first process. Its root is the host's, to be read alone, under a layer in memory that takes all writes.
 * It then takes orders from a port of virtio, which unlike a serial line loses nothing under load: a line is the name
 * of a script in the shared folder, and the answer is that name with the script's exit status. It must never end, since
 * the kernel would panic.
 */
const INIT = `#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
for module in $($b cat /modules/order); do $b insmod /modules/$module || echo "isthmus-vm: no $module"; done
options=trans=virtio,version=9p2000.L,msize=262144
$b mount -t 9p -o ro,cache=loose,$options hostroot /host || echo "isthmus-vm: no root"
$b mount -t tmpfs tmpfs /layer
$b mkdir /layer/upper /layer/work
$b mount -t overlay -o lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work overlay /root ||
  echo "isthmus-vm: no overlay"
$b mount -t tmpfs tmpfs /root/run
$b mkdir -p /root${GUEST_SHARE} /root/dev
$b mount -t 9p -o cache=none,$options share /root${GUEST_SHARE}
$b mount -t proc proc /root/proc
$b mount -t sysfs sys /root/sys
$b mount -t devtmpfs dev /root/dev
$b mkdir -p /root/dev/pts /root/dev/shm
$b mount -t devpts devpts /root/dev/pts
$b mount -t tmpfs tmpfs /root/dev/shm
$b mount -t tracefs tracefs /root/sys/kernel/tracing
$b mount -t debugfs debugfs /root/sys/kernel/debug
$b hostname isthmus-vm
$b ip link set lo up
exec 3<>/dev/vport0p1
echo ready >&3
while read -r id <&3; do
  if [ "$id" = halt ]; then
    echo o >/proc/sysrq-trigger
    while :; do :; done
  fi
  (
    $b chroot /root /bin/sh ${GUEST_SHARE}/$id.sh </dev/null >/root${GUEST_SHARE}/$id.out 2>&1
    echo "$id $?" >&3
  ) &
done
while :; do :; done
`;

/** What the kernel calls when it wants a module: that of the host's files. */
const MODPROBE = `#!/bin/busybox sh
exec /bin/busybox chroot /root /sbin/modprobe "$@"
`;

export function initramfs(kernel: Kernel): Buffer {
  if (!existsSync(BUSYBOX)) throw new VmError("busybox is missing (Debian package busybox-static)");
  const modules = moduleFiles(kernel, MODULES).map((file) => ({ name: basename(file, ".xz"), file }));
  const folders = ["bin", "dev", "host", "layer", "modules", "proc", "root", "sbin", "sys"];
  const entries: CpioEntry[] = [
    ...folders.map((path) => ({ path, mode: DIRECTORY })),
    { path: "bin/busybox", mode: PROGRAM, content: readFileSync(BUSYBOX) },
    { path: "sbin/modprobe", mode: PROGRAM, content: Buffer.from(MODPROBE) },
    { path: "init", mode: PROGRAM, content: Buffer.from(INIT) },
    { path: "modules/order", mode: FILE, content: Buffer.from(modules.map(({ name }) => name).join("\n")) },
    ...modules.map(({ name, file }) => ({ path: `modules/${name}`, mode: FILE, content: readModule(file) })),
  ];
  return cpio(entries);
}
