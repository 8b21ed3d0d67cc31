import { resolve } from "node:path";
import { buildModule, installedKernels, type KernelModule, kernelsUnderTest, VirtualMachine } from "@isthmus/vm";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const SET_UP_MS = 600_000;
const ROOT = resolve(import.meta.dirname, "../../..");
const TOOLS = ["kernel/natpass/test/natctl.c", "kernel/natpass/test/storm.c", "test/e2e/test/fixtures/binder.c"];
const ANSWER_MS = 500;
/** What the measurement of a wait may be off on a busy machine. */
const LATE_MS = 400;
/** What programs listen with, and where. */
const KINDS = [
  ["tcp4", "0.0.0.0"],
  ["tcp6", "::"],
  ["mptcp4", "0.0.0.0"],
  ["udp4", "0.0.0.0"],
  ["udp6", "::"],
  ["tcp6", "::ffff:0.0.0.0"],
] as const;
const UNLOADS = process.env.ISTHMUS_FULL === "1" ? 10 : 2;
/** For each time that the module is unloaded. */
const STORM_SECONDS = 2;

/**
 * For the scripts of this file. `serve RULE...` is the daemon; what it was told stands in /tmp/told. `bind` runs a binder
 * that does what stands on its standard input.
 */
const LIBRARY = `
  exec 3>&-
  cd /tmp
  settle() { # SECONDS COMMAND...
    tries=$(($1 * 10)); shift
    until "$@"; do tries=$((tries - 1)); [ $tries -gt 0 ] || { echo "never: $*"; cat told; exit 1; }; sleep 0.1; done
  }
  told() { grep -q "$1" told; }
  serve() {
    $BIN/natctl $OPTIONS serve "$@" >told 2>&1 5>&- & daemon=$!
    settle 10 told .
  }
  leave() { kill -9 $daemon; wait $daemon 2>/dev/null; true; }
  bind() { $BIN/binder; }
`;

/** MPTCP binds in another way since Linux 6.6. */
const newest = process.env.ISTHMUS_KERNEL === "debug" ? [] : installedKernels().slice(-1);
const kernels = new Map([...newest, ...kernelsUnderTest()].map((kernel) => [kernel.version, kernel]));

describe.each([...kernels.values()])("nat_pass on $version", (kernel) => {
  const isWhole = kernelsUnderTest().some(({ version }) => version === kernel.version);
  let module: KernelModule;
  let vm: VirtualMachine;

  beforeAll(async () => {
    module = buildModule("natpass", kernel);
    vm = await VirtualMachine.boot({ kernel });
    vm.compile(...TOOLS.map((tool) => resolve(ROOT, tool)));
    await vm.check("ip link set lo up");
  }, SET_UP_MS);

  afterAll(async () => {
    await vm?.stop();
  });

  /** Runs a script after {@link LIBRARY}. @returns its lines, milliseconds of binds apart */
  async function run(script: string, timeoutMs?: number): Promise<{ lines: string[]; waits: number[] }> {
    const output = await vm.check(`BIN=${vm.guestShare}\n${LIBRARY}\n${script}`, timeoutMs);
    const lines = output.trimEnd().split("\n");
    const binds = lines.map((line) => /^(ok|E[A-Z]+) ([\d.]+)$/.exec(line));
    return {
      lines: lines.map((line, at) => binds[at]?.[1] ?? line).filter((line) => !line.startsWith("socket ")),
      waits: binds.flatMap((bind) => (bind ? [Number(bind[2])] : [])),
    };
  }

  it("is compiled without a warning", () => {
    expect(module.log.split("\n").filter((line) => /warning|error/i.test(line))).toEqual([]);
  });

  describe.each(isWhole ? ["ftrace", "kprobe"] : ["ftrace"])("by %s", (mechanism) => {
    beforeAll(async () => {
      await vm.load(module, `mechanism=${mechanism}`);
    });

    afterAll(async () => {
      await vm.check("/sbin/rmmod nat_pass");
    });

    it("says what binds there are, of each kind, and when their last socket is closed", async () => {
      const { lines } = await run(`
        serve 1024-65535=succeeded
        bind <<'END'
${KINDS.map(([kind, address], n) => `open ${kind}\nbind 3 ${address} ${10_000 + n}\nlisten 3\nclose 3`).join("\n")}
open tcp4
bind 3 0.0.0.0 10010
END
        settle 5 told ^close.*port=10010
        leave
        sed 's/pid=[0-9]*/pid=N/' told
      `);
      const told = (what: string) => lines.filter((line) => line.startsWith(`${what} `));
      const bind = (proto: number, address: string, port: number) =>
        `proto=${proto} port=${port} address=${address} pid=N uid=0 comm=binder state=waiting sockets=1`;
      const binds = told("bind").map((line) => line.replace(/.*(?=proto)/, ""));
      expect(binds).toEqual([
        ...KINDS.map(([kind, address], n) => bind(kind.startsWith("udp") ? 17 : 6, address, 10_000 + n)),
        bind(6, "0.0.0.0", 10_010),
      ]);
      const names = (what: string) => told(what).map((line) => /seq=\d+ proto=\d+ port=\d+/.exec(line)?.[0]);
      expect(names("close")).toEqual(names("bind"));
      expect(lines.filter((line) => line.startsWith("E") && line !== "EOPNOTSUPP")).toEqual([]);
    });

    it("lets a bind fail, and the same socket take the next port; the port is free then", async () => {
      const { lines } = await run(`
        serve 11000-11009=failed 1024-65535=succeeded
        bind <<'END'
${KINDS.map(([kind, address]) => {
  const local = address === "::" ? "::1" : address.replace("0.0.0.0", "127.0.0.1");
  return [
    `open ${kind}\nbind 3 ${address} 11000\nbind 3 ${address} 11001\nopen ${kind}\nbind 4 ${local} 11000\nclose 4`,
    `bind 3 ${address} 11010\nlisten 3\nbind 3 ${address} 11011\nclose 3`,
  ].join("\n");
}).join("\n")}
END
        leave
        grep -c '^bind' told
        grep '^close' told
      `);
      const each = (kind: string) => [
        "EADDRINUSE",
        "EADDRINUSE",
        "ok",
        "ok",
        "ok",
        kind.startsWith("udp") ? "EOPNOTSUPP" : "ok",
        "EINVAL",
        "ok",
      ];
      expect(lines.slice(0, 8 * KINDS.length)).toEqual(KINDS.flatMap(([kind]) => each(kind)));
      expect(lines[8 * KINDS.length]).toBe(String(3 * KINDS.length));
      // What was refused is closed for nobody.
      const closed = lines.slice(8 * KINDS.length + 1);
      expect(closed.map((line) => line.replace(/.*port=/, ""))).toEqual(KINDS.map(() => "11010"));
    });

    it("holds a bind up for half a second at most, and the port is the program's meanwhile", async () => {
      const { lines, waits } = await run(`
        OPTIONS="-w 10000"
        serve 12000-12000=silent
        { bind <<'END'
open udp4
bind 3 0.0.0.0 12000
END
        } >waiter & waiter=$!
        settle 5 told port=12000
        bind <<'END'
open udp4
bind 3 127.0.0.1 12000
END
        leave
        wait $waiter
        cat waiter
        OPTIONS=
        serve 12001-12001=silent 12002-12002=failed:700
        bind <<'END'
open udp4
bind 3 0.0.0.0 12001
open tcp6
bind 4 :: 12002
END
        settle 5 told refused
        leave
        grep refused told
      `);
      const late = "refused: No such file or directory: nobody waits for that answer";
      expect(lines).toEqual(["EADDRINUSE", "ok", "ok", "ok", late]);
      for (const wait of waits.slice(2)) {
        expect(wait).toBeGreaterThan(ANSWER_MS * 0.95);
        expect(wait).toBeLessThan(ANSWER_MS + LATE_MS);
      }
    });

    it("is unloaded and loaded again while programs bind and wait, and loses nobody", async () => {
      const { lines } = await run(
        `
        serve 20000-20049=silent 20050-20099=failed 1024-65535=succeeded
        $BIN/storm 8 ${STORM_SECONDS * UNLOADS} 20000 20499 >storm & storm=$!
        n=0
        while [ $n -lt ${UNLOADS} ]; do
          n=$((n + 1))
          sleep 1
          # A message on its way holds the module.
          tries=0
          until /sbin/rmmod nat_pass; do tries=$((tries + 1)); [ $tries -lt 100 ] || exit 1; done
          leave
          /sbin/insmod ${module.file} mechanism=${mechanism}
          serve 20000-20049=silent 20050-20099=failed 1024-65535=succeeded
        done
        wait $storm || { cat storm; exit 1; }
        cat storm
        settle 5 none_open
        leave
        `.replace("serve", "none_open() { $BIN/natctl dump >open; ! grep -q ^port open; }\n serve"),
        240_000,
      );
      const [, done, taken, longest] = /done (\d+) taken (\d+) longest ([\d.]+)/.exec(lines.join("\n"))!.map(Number);
      expect(done).toBeGreaterThan(100);
      expect(taken).toBeGreaterThan(5);
      expect(longest).toBeGreaterThan(ANSWER_MS * 0.95);
      expect(vm.complaints()).toEqual([]);
    });
  });

  if (!isWhole) return;

  describe("whatever sees the binds", () => {
    beforeAll(async () => {
      await vm.load(module);
    });

    it("leaves alone what is none of its own", async () => {
      const { lines } = await run(
        `
        OPTIONS="-x 13100-13199 -x 13200-13299/17 -4"
        serve 1024-65535=failed
        bind <<'END'
open tcp4
bind 3 0.0.0.0 0
open tcp4
bind 4 0.0.0.0 1023
open tcp4
bind 5 127.0.0.1 13000
open tcp6 v6only
bind 6 :: 13001
open udp6
bind 7 ::1 13002
open tcp4
bind 8 192.0.2.1 13003
open tcp4
bind 9 0.0.0.0 13100
open udp4
bind 10 0.0.0.0 13299
open tcp4
bind 11 0.0.0.0 13299
open udp6
bind 12 :: 13004
END
        # Another network namespace has no daemon.
        ip netns add other
        ip netns exec other $BIN/binder <<'END'
open tcp4
bind 3 0.0.0.0 13005
END
        kill -HUP $daemon; settle 5 told 'ok.*
ok' || true
        leave
        bind <<'END'
open tcp4
bind 3 0.0.0.0 13006
END
        grep '^bind' told
      `
          .replace("told 'ok.*\nok' || true", "told_twice")
          .replace("OPTIONS=", "told_twice() { [ $(grep -c ok told) -ge 2 ]; }\n OPTIONS="),
      );
      const results = ["ok", "ok", "ok", "ok", "ok", "EADDRNOTAVAIL", "ok", "ok", "EADDRINUSE", "ok", "ok", "ok"];
      expect(lines.slice(0, results.length)).toEqual(results);
      expect(lines.slice(results.length)).toEqual([expect.stringContaining("proto=6 port=13299")]);
    });

    it("counts the sockets of a port: one bind, one close, and a fork holds it too", async () => {
      const { lines } = await run(`
        serve 1024-65535=succeeded
        mkfifo in 2>/dev/null
        $BIN/binder <in >first & first=$!
        exec 5>in
        printf 'open tcp4 reuseport\nbind 3 0.0.0.0 14000\nlisten 3\nfork\n' >&5
        settle 5 grep -q child first
        { printf 'open tcp4 reuseport\nbind 3 0.0.0.0 14000\n'; sleep 1; $BIN/natctl dump >two; printf 'close 3\n'; } | bind >/dev/null
        grep -o 'port=14000.*sockets.*' two
        kill -9 $first; wait $first 2>/dev/null
        sleep 0.3
        grep -c ^close told
        kill -9 $(sed -n 's/child //p' first)
        settle 5 told ^close
        leave
        grep -c ^bind told; grep -c ^close told
      `);
      expect(lines.map((line) => line.replace(/pid=\d+/, "pid=N"))).toEqual([
        "port=14000 address=0.0.0.0 pid=N uid=0 comm=binder state=succeeded sockets=2",
        "0",
        "1",
        "1",
      ]);
    });

    it("reaps who is killed in its wait, at once", async () => {
      const { lines } = await run(`
        OPTIONS="-w 10000"; serve 1024-65535=silent
        printf 'open tcp4\nbind 3 0.0.0.0 15000\n' >in.15
        $BIN/binder <in.15 >out & waiter=$!
        settle 5 told port=15000
        began=$(date +%s%N)
        kill -9 $waiter; wait $waiter 2>/dev/null
        echo took $((($(date +%s%N) - began) / 1000000))
        settle 5 told ^close
        leave
      `);
      const [, took] = /took (\d+)/.exec(lines.join("\n"))!;
      expect(Number(took)).toBeLessThan(LATE_MS * 5);
    });

    it("lets go on who waits when the daemon dies, is as if it were not there, and tells the next one what is open", async () => {
      const { lines, waits } = await run(`
        serve 16000-16000=silent 1024-65535=succeeded
        rm -f in; mkfifo in
        $BIN/binder <in >out & waiter=$!
        exec 5>in
        printf 'open tcp6\nbind 3 :: 16001\nopen tcp4\nbind 4 0.0.0.0 16000\n' >&5
        settle 5 told port=16000
        leave
        printf 'open tcp4\nbind 5 0.0.0.0 16002\n' >&5
        settle 5 grep -q 'socket 5' out
        serve 1024-65535=succeeded
        printf 'open tcp4\nbind 6 0.0.0.0 16003\n' >&5
        settle 5 told port=16003
        $BIN/natctl dump
        exec 5>&-; wait $waiter
        cat out
        settle 5 told close.*16001
        leave
        sed 's/seq=[0-9]* //' told | sort
      `);
      const port = (number: number) => expect.stringContaining(`proto=6 port=${number} `);
      expect(lines.slice(0, 3)).toEqual([port(16_000), port(16_001), port(16_003)]);
      expect(lines[0]).toContain("state=ignored");
      expect(lines.slice(3, 7)).toEqual(["ok", "ok", "ok", "ok"]);
      expect(lines.slice(7, 12)).toEqual([
        port(16_003),
        ...[16_000, 16_001, 16_003].map((number) => `close proto=6 port=${number}`),
        "ok",
      ]);
      // As quickly as one that nobody is asked about; the one that waited did so until the daemon was killed.
      expect(waits[1]).toBeLessThan(ANSWER_MS + LATE_MS);
      expect(waits[2]).toBeLessThan(ANSWER_MS / 2);
    });

    it("serves one daemon, with the rights for it, and refuses with words", async () => {
      const { lines } = await run(`
        $BIN/natctl say register
        $BIN/natctl say unregister
        serve 1024-65535=succeeded
        $BIN/natctl say register
        $BIN/natctl say unregister
        $BIN/natctl say failed 1
        leave
        setpriv --reuid 65534 --clear-groups --bounding-set -all $BIN/natctl say register
        setpriv --reuid 65534 --clear-groups --bounding-set -all $BIN/natctl dump || true
        OPTIONS="-x 2000-1000"; serve 1024-65535=succeeded; leave; cat told
        OPTIONS="$(seq 257 | sed 's/.*/-x 1-2/' | tr '\\n' ' ')"; serve 1024-65535=succeeded; leave; cat told
        OPTIONS="-w 10001"; serve 1024-65535=succeeded; leave; cat told
      `);
      const notIts = "refused: Operation not permitted: this socket is not registered";
      expect(lines).toEqual([
        "ok",
        notIts,
        "refused: Device or resource busy: another process is registered in this namespace",
        notIts,
        notIts,
        "refused: Operation not permitted",
        "refused: Operation not permitted",
        "refused: Invalid argument: exclusion: it ends before it begins",
        "refused: Argument list too long: too many exclusions",
        expect.stringMatching(/^refused: Numerical result out of range/),
      ]);
    });

    it("tells a daemon that did not read in time that it has missed something", async () => {
      const { lines } = await run(`
        OPTIONS="-w 1 -b 4096"
        serve 1024-65535=succeeded
        kill -STOP $daemon
        $BIN/storm 4 2 17000 17999 >/dev/null
        kill -CONT $daemon
        settle 20 told overrun
        leave
        echo missed
      `);
      expect(lines).toEqual(["missed"]);
    });

    it("goes away with its namespace", async () => {
      await run(`
        ip netns exec other ip link set lo up
        ip netns exec other $BIN/natctl serve 1024-65535=silent >told 2>&1 & daemon=$!
        settle 5 told ok
        ip netns exec other $BIN/storm 4 2 18000 18099 & storm=$!
        sleep 0.5
        kill -9 $daemon
        ip netns del other
        wait $storm
      `);
    });

    it("leaves neither a complaint of the kernel behind nor memory", async () => {
      await vm.check("/sbin/rmmod nat_pass");
      expect(await vm.leaks()).toBe("");
      expect(vm.complaints()).toEqual([]);
    });
  });
});
