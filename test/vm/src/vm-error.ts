/** What keeps a virtual machine from starting or working, in words for whoever runs the tests. */
export class VmError extends Error {
  override name = "VmError";
}
