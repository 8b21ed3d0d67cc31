import { cpSync, readFileSync } from "node:fs";
import { installedKernels, VirtualMachine } from "./src/index.ts";

const kernel = installedKernels()[0]!;
await using vm = await VirtualMachine.boot({ kernel });
console.log("up");
try {
  cpSync("/tmp/w/nl", vm.share + "/nl", { recursive: true });
  console.log(
    await vm.check(
      `modprobe nf_defrag_ipv6; modprobe nf_conntrack; modprobe veth; insmod ${vm.guestShare}/nl/ist.ko && ip link set lo up && lsmod | head -3`,
      60000,
    ),
  );
  const r = await vm.run(readFileSync(process.argv[2]!, "utf8"), 590000);
  console.log("rc", r.status, r.output);
} catch (e) {
  console.log(e);
}
console.log(vm.complaints().slice(0, 20).join("\n"));
