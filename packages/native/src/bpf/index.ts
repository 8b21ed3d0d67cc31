export { Shape } from "./shape.ts";
export { BpfError, bpfUnavailable, detachSplice, EEXIST, SpliceObject } from "./splice-object.ts";
