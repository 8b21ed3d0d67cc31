import { silentLogger } from "@isthmus/service";
import { expect, it, onTestFinished } from "vitest";
import { DEFAULT_PORTS, type Driver, openDataPath, SocketSplicer } from "../src/index.ts";

async function opened(driver: Driver, bind: string[] = []) {
  const result = await openDataPath(
    { driver, logger: silentLogger(), splicer: new SocketSplicer(), bind },
    { ports: DEFAULT_PORTS, udpIdleMs: 60_000, onEvent: () => undefined },
  );
  onTestFinished(() => result.dataPath.close());
  return { name: result.capabilities.name, reason: result.reason };
}

const MODULE = "the kernel's data path cannot be used: ";
const PROGRAMS = "the BPF data path cannot be used: ";
const ALL = "on all addresses, and data_path.addresses names some";

it("is nothing else than what is asked for", async () => {
  expect(await opened("userspace")).toEqual({ name: "userspace", reason: "the configuration asks for it" });
  await expect(opened("kernel", ["127.0.0.1"])).rejects.toThrow(`${MODULE}the module takes ports ${ALL}`);
  await expect(opened("ebpf", ["127.0.0.1"])).rejects.toThrow(`${PROGRAMS}the programs take ports ${ALL}`);
});

it("is user space for cells on some addresses alone, and says why it is not one of the others", async () => {
  const reason = `${MODULE}the module takes ports ${ALL}; ${PROGRAMS}the programs take ports ${ALL}`;
  expect(await opened("auto", ["127.0.0.1"])).toEqual({ name: "userspace", reason });
});
