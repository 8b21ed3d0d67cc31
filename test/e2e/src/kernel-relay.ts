import type { Lab } from "@isthmus/lab";
import { buildModule, GuestNode, installedKernels, type Kernel, VmError } from "@isthmus/vm";

/** Node with a relay in it, beside the kernel. */
const MEMORY_MIB = 1024;

export interface KernelRelayOptions {
  /** By default the oldest that is installed. */
  kernel?: Kernel;
  /** The module is loaded. @default true */
  isLoaded?: boolean;
}

/**
 * A public host for an IST whose data path is the module `ist_splice`: a virtual machine, for the module's kernel need not
 * be this host's.
 * @throws VmError when there is no kernel with headers, no QEMU, or the module does not build
 */
export async function kernelRelay(lab: Lab, name: string, options: KernelRelayOptions = {}): Promise<GuestNode> {
  const { kernel = installedKernels()[0], isLoaded = true } = options;
  if (!kernel) {
    throw new VmError("no kernel with image and headers (Debian packages linux-image-amd64, linux-headers-amd64)");
  }
  const module = buildModule("splice", kernel);
  await lab.host(name);
  const node = await GuestNode.replace(lab, name, { kernel, memoryMiB: MEMORY_MIB });
  if (isLoaded) await node.machine.load(module);
  return node;
}
