export { Shape } from "./shape.ts";
export { BpfError, bpfUnavailable, EEXIST, OTHER_MAPS, SpliceObject } from "./splice-object.ts";
