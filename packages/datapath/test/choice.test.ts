import { netlinkUnavailable } from "@isthmus/native/netlink";
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

const cannot = "the kernel's data path cannot be used: ";
const why =
  netlinkUnavailable === undefined
    ? "the module ist_splice is not loaded"
    : `there is no netlink: ${netlinkUnavailable}`;

it("is user space where the kernel has no module, and says so", async () => {
  expect(await opened("auto")).toEqual({ name: "userspace", reason: cannot + why });
});

it("is nothing else than what is asked for", async () => {
  expect(await opened("userspace")).toEqual({ name: "userspace", reason: "the configuration asks for it" });
  await expect(opened("kernel")).rejects.toThrow(cannot + why);
});

it("is no BPF program where that cannot be, and says why", async () => {
  const reason = "the BPF data path cannot be used: the programs take ports on all addresses, and data_path.addresses";
  await expect(opened("ebpf", ["127.0.0.1"])).rejects.toThrow(reason);
});

it("is user space for cells on some addresses alone", async () => {
  const reason = `${cannot}the module takes ports on all addresses, and data_path.addresses names some`;
  expect(await opened("auto", ["127.0.0.1"])).toEqual({ name: "userspace", reason });
});
