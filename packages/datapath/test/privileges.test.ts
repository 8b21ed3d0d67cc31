import { expect, it } from "vitest";
import { missingPrivileges } from "../src/ebpf/privileges.ts";

it.each([
  ["root", "000001ffffffffff", []],
  ["the drop-in of the unit", "0000000000203400", []],
  ["CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_NET_RAW", "000000c000003000", ["CAP_SYS_ADMIN"]],
  ["nobody", "0000000000000000", ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_ADMIN"]],
])("what is missing of the privileges of %s", (_, effective, missing) => {
  expect(missingPrivileges(`Name:\tnode\nCapPrm:\t0000000000000000\nCapEff:\t${effective}\nSeccomp:\t0\n`)).toEqual(
    missing,
  );
});

it("is all where the system does not say", () => {
  expect(missingPrivileges("")).toHaveLength(3);
});
