import { ApiClient } from "@isthmus/agent/client";
import {
  type NatbinderExplanation,
  type NatbinderPort,
  type NatbinderReach,
  type NatbinderStatus,
  natbinderAdmin,
} from "@isthmus/protocol";
import { natbinderAdminSocket } from "@isthmus/service";
import { type Command, Option } from "commander";
import { type PortName, portName } from "./port-name.ts";
import { foreign, print, table } from "./print.ts";

/** Between two tables of `status --follow`. */
const FOLLOW_MS = 1000;
const SEEN = {
  module: "of all programs, by the kernel module",
  cgroup: "of all programs, by eBPF: known ports of other hosts are refused, the rest is mapped afterwards",
  sockets: "of all programs, by the list of sockets: mapped afterwards",
  none: "of programs under 'natbinder run' only",
};
const CLEAR_SCREEN = "\x1b[H\x1b[J";

/** Adds `isthmus natbinder`, the commands of the natbinder of this host. */
export function addNatbinder(program: Command, show: <T>(answer: T, forPeople: (answer: T) => void) => void): void {
  const natbinder = program
    .command("natbinder")
    .description("the ports that natbinder maps on the gateway for programs of this host")
    .addOption(
      new Option("--admin-socket <path>", "natbinder's admin socket")
        .env("ISTHMUS_NATBINDER_ADMIN_SOCKET")
        .default(natbinderAdminSocket(), "this host's, or else this user's"),
    );

  function client(): ApiClient {
    const { adminSocket } = natbinder.opts<{ adminSocket: string }>();
    const isSystem = adminSocket.startsWith("/run/isthmus-natbinder/");
    return new ApiClient(adminSocket, { name: "natbinder", program: "natbinder", isSystem });
  }

  natbinder
    .command("status")
    .description("which ports are mapped, and for which programs")
    .option("-f, --follow", "again each second, until Ctrl-C")
    .action(async ({ follow }: { follow?: boolean }) => {
      for (;;) {
        const status = await client().ask(natbinderAdmin.status, {});
        if (follow && process.stdout.isTTY) process.stdout.write(CLEAR_SCREEN);
        show(status, printStatus);
        if (!follow) return;
        await new Promise((resolve) => setTimeout(resolve, FOLLOW_MS));
      }
    });

  natbinder
    .command("page")
    .description("the address of a page with the same, live; whoever knows it may look, until natbinder ends")
    .action(async () => {
      show(await client().ask(natbinderAdmin.page, {}), ({ url }) => print(url));
    });

  natbinder
    .command("map")
    .description("map a port of this host until it is unmapped, whoever listens there")
    .argument("<port>", "PORT, or PORT/udp", portName)
    .action(async (name: PortName) => {
      show(await client().ask(natbinderAdmin.map, name), (port) => print(ports([port])));
    });

  natbinder
    .command("unmap")
    .description("take back what 'isthmus natbinder map' did")
    .argument("<port>", "PORT, or PORT/udp", portName)
    .action(async (name: PortName) => {
      show(await client().ask(natbinderAdmin.unmap, name), () => print("unmapped"));
    });

  natbinder
    .command("explain")
    .description("what is known about a port: who wants it, what the gateway has, and why it is not mapped")
    .argument("<port>", "PORT, or PORT/udp", portName)
    .action(async (name: PortName) => show(await client().ask(natbinderAdmin.explain, name), printExplanation));
}

function printStatus({ gateway, systemWide, diskTrouble, ports: all }: NatbinderStatus): void {
  print(
    gateway
      ? `gateway  ${gateway.address} (${gateway.kind}), to the world ${gateway.externalAddress ?? "unknown"}`
      : "gateway  none answers: binds are as ever",
  );
  if (systemWide) print(`binds    ${SEEN[systemWide.source ?? "none"]}`);
  if (systemWide?.trouble) print(`note     ${foreign(systemWide.trouble)}`);
  if (diskTrouble) print(`note     what is mapped is not written to disk: ${diskTrouble}`);
  const cut = all.find(({ reachable }) => reachable?.reason === "another-nat")?.reachable;
  if (cut) print(`note     mapped ports cannot be reached: ${foreign(cut.message)}`);
  if (all.length > 0) print(`\n${ports(all)}`);
}

function ports(all: readonly NatbinderPort[]): string {
  return table(
    ["PORT", "STATE", "REACHABLE", "LEASE LEFT", "PROGRAM", "PROCESS", "USER", "SINCE"],
    all.flatMap(({ protocol, port, state, reason, reachable, leaseLeftS, owners }) => {
      const head = [
        `${port}/${protocol}`,
        reason ? `${state} (${reason})` : state,
        reachable ? reachText(reachable) : "",
        leaseLeftS === undefined ? "" : `${leaseLeftS} s`,
      ];
      if (owners.length === 0) return [head];
      return owners.map(({ program, pid, uid, since, byAdmin }) =>
        byAdmin ? [...head, "(by hand)", "", "", since] : [...head, foreign(program), String(pid), String(uid), since],
      );
    }),
  );
}

function reachText({ state, reason }: NatbinderReach): string {
  return state === "yes" ? state : `${state} (${reason})`;
}

function printExplanation({ protocol, port, wanted, excluded, entry, entryUnknown }: NatbinderExplanation): void {
  print(`${port}/${protocol}: ${wanted ? wanted.state : "nobody here has asked for it"}`);
  if (wanted?.reason) print(`  the gateway said   ${wanted.reason}`);
  if (wanted?.reachable) {
    const { state, message, since } = wanted.reachable;
    print(`  from outside       ${state}: ${foreign(message)}${since ? `; since ${since}` : ""}`);
  }
  for (const { program, pid, uid, byAdmin } of wanted?.owners ?? []) {
    print(
      `  wanted by          ${byAdmin ? "'isthmus natbinder map'" : `${foreign(program)}, process ${pid}, user ${uid}`}`,
    );
  }
  if (excluded) print(`  left alone         ${excluded}`);
  if (entryUnknown) print(`  the gateway's list cannot be looked at: ${foreign(entryUnknown)}`);
  else if (entry) {
    const whose = entry.own ? "this host" : entry.address;
    print(
      `  the gateway has    ${whose}, port ${entry.port}, '${foreign(entry.description)}', ${entry.leaseLeftS} s left`,
    );
  } else print("  the gateway has    nothing there");
}
