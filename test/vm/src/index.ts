export { GuestNode } from "./guest-node.ts";
export { debugKernel, installedKernels, type Kernel, kernelsUnderTest } from "./kernel.ts";
export { buildModule, type KernelModule } from "./kernel-module.ts";
export { type CommandResult, VirtualMachine, type VirtualMachineOptions } from "./virtual-machine.ts";
export { VmError } from "./vm-error.ts";
