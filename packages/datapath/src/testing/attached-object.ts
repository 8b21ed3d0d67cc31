import { SpliceObject } from "@isthmus/native/bpf";
import { Interfaces, LOOPBACK, ownProgram } from "../ebpf/interfaces.ts";

/** The programs that are attached to the loopback device, with their maps. @throws Error when there are none */
export async function attachedObject(): Promise<SpliceObject> {
  const interfaces = new Interfaces(() => undefined);
  try {
    const id = ownProgram(await interfaces.filters(LOOPBACK));
    if (!id) throw new Error("the BPF data path is not attached");
    return new SpliceObject(id);
  } finally {
    interfaces.close();
  }
}
