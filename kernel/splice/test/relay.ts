import { type Families, HOSTS, type HOSTS_BEHIND_NATS } from "./relay-topology.ts";

export interface Outcome {
  readonly status: number;
  /** Standard output and standard error, as they came. */
  readonly output: string;
}

/** Runs shell scripts where the hosts are. */
export interface Shell {
  run(script: string, timeoutMs?: number): Promise<Outcome>;
  /** Like `run`. @returns the output @throws Error when the status is not zero */
  check(script: string, timeoutMs?: number): Promise<string>;
}

/** A passive cell alone in its allocation. */
export interface Cell {
  readonly id: number;
  readonly ports: readonly [number, number];
}

export interface CellOptions {
  /** How long an unpaired leg waits, in milliseconds; by default some seconds. */
  halfMs?: number;
  /** At once; 0 is any number. */
  splices?: number;
}

export interface TransferOptions {
  families?: Families;
  /** In each direction. */
  bytes?: number;
  /** Source ports; 0 is any. */
  from?: readonly [number, number];
  /** Further words for `leg`. */
  words?: readonly [string, string];
  /** How long `b` waits before it connects. */
  delayMs?: number;
}

/** A splice as the relay tells of it; states and reasons have their names of the netlink interface. */
export interface ToldSplice {
  readonly state: string;
  readonly reason: string;
  /** ADDRESS:PORT of both ends, by side. */
  readonly ends: readonly string[];
}

/** What a suite is started with. */
export interface RelayUnderTest<T extends Relay = Relay> {
  readonly relay: T;
  stop(): Promise<void>;
}

/** Wherein data paths differ. */
export interface RelayAbilities {
  /** Between which fragments pass, and errors of ICMP other than of what is too large. */
  readonly families: readonly Families[];
  /** It hears from others what a path carries, and from then on tells senders itself. */
  readonly learnsMtu: boolean;
  /** What becomes IPv4 of IPv6 is not split on its way. */
  readonly setsDontFragment: boolean;
}

export interface CrowdOptions {
  cells: number;
  pairs: number;
  /** That each end sends; 0 for as much as passes. */
  bytes: number;
  /** A shell script that runs while all are there. */
  meanwhile: string;
  /** Among which they are divided, since one may not have as many sockets. @default 1 */
  processes?: 1 | 2;
  timeoutMs?: number;
  /** All of it has one CPU. */
  onOneCpu?: boolean;
}

const NAMESPACES = ["a", "b"] as const;
const POLL_MS = 100;
const POLLS_MS = 60_000;

/**
 * The hosts of relay-topology.ts, the programs of this folder on them, and a relay between them: whatever moves its
 * packets is asked by the same names.
 */
export abstract class Relay {
  readonly shell: Shell;
  readonly addresses: typeof HOSTS | typeof HOSTS_BEHIND_NATS;
  /** The folder of the programs, and one for files, as scripts know them. */
  readonly bin: string;
  readonly scratch: string;
  #runs = 0;

  protected constructor(
    shell: Shell,
    addresses: typeof HOSTS | typeof HOSTS_BEHIND_NATS,
    bin: string,
    scratch: string,
  ) {
    this.shell = shell;
    this.addresses = addresses;
    this.bin = bin;
    this.scratch = scratch;
  }

  /** An allocation of one passive cell with ports of its own. */
  abstract cell(options?: CellOptions): Promise<Cell>;
  /** An allocation of passive cells at the ports 20000 and 20001, 20002 and 20003, and so on. @returns its id */
  abstract cellsInRow(count: number): Promise<number>;
  /** An allocation of a Pure cell at whose ports legs arrive from those of each other. @returns its id */
  abstract pureCell(ports: readonly [number, number]): Promise<number>;
  abstract release(id: number): Promise<void>;
  /** Those of an allocation, the newest last. */
  abstract splices(id: number): Promise<ToldSplice[]>;
  abstract totals(): Promise<{ halves: number; splices: number; bytes: number }>;
  /** How often a reason ended something, and how many packets it cost, since the start. */
  abstract counted(reason: string): Promise<{ ended: number; packets: number }>;
  /** What splices take now: how many there are, those included that are over, and the memory that they have. */
  abstract memory(): Promise<{ objects: number; bytes: number }>;
  /** How many unpaired legs a listener hears to be replaced while `body` runs. */
  abstract hearReplaced(body: () => Promise<void>): Promise<number>;
  /** Removes the hosts and the data path. @returns what the kernel has complained of, and what was left */
  abstract unload(): Promise<string[]>;

  on(host: "a" | "q" | "i" | "r" | "b", script: string): Promise<string> {
    return this.shell.check(`ip netns exec ${host} sh -e <<'END'\n${script}\nEND\n`);
  }

  /** A leg as words of `leg`: a host's address and port (0 is any), and those of the relay that it connects to. */
  way(side: 0 | 1, ports: readonly [number, number], family: 4 | 6 = 4, from = 0): string {
    const { v4, v6, ist4, ist6 } = side === 0 ? this.addresses.a : this.addresses.b;
    const [own, ist] = family === 4 ? [v4, ist4] : [v6, ist6];
    return `${own} ${from} ${ist} ${ports[side]}`;
  }

  /** A command that runs `leg` on the host of a side. */
  leg(side: 0 | 1, words: string): string {
    return `ip netns exec ${NAMESPACES[side]} ${this.bin}/leg ${words}`;
  }

  /** Runs `leg` on both hosts at the same time, `b` after a while; several pairs may. @returns what they said */
  async legs(a: string, b: string, delayMs = 100): Promise<[string, string]> {
    const file = `${this.scratch}/legs-${++this.#runs}`;
    const output = await this.shell.check(`
      ${this.leg(0, a)} >${file}.a & pid=$!
      sleep ${delayMs / 1000}
      ${this.leg(1, b)} >${file}.b; status=$?
      wait $pid || status="$status, a $?"
      cat ${file}.a; echo ----; cat ${file}.b
      [ "$status" = 0 ] || { echo "status b $status"; exit 1; }
    `);
    return output.split("----\n") as [string, string];
  }

  /** Two ends that send each other so many bytes, and check every one. */
  transfer(
    ports: readonly [number, number],
    { families = [4, 4], bytes = 2_000_000, from = [0, 0], words = ["", ""], delayMs = 100 }: TransferOptions = {},
  ): Promise<[string, string]> {
    const leg = (side: 0 | 1): string => {
      const seeds = side === 0 ? [11, 22] : [22, 11];
      const way = this.way(side, ports, families[side], from[side]);
      return `tcp ${way} ${bytes} ${seeds[0]} ${bytes} ${seeds[1]} ${words[side]}`;
    };
    return this.legs(leg(0), leg(1), delayMs);
  }

  /** Both ends send datagrams until each has got some, or a minute is over. @returns how many came at `a` and at `b` */
  async datagrams(
    ports: readonly [number, number],
    size: number,
    { families = [4, 4], enough = 10 }: { families?: Families; enough?: number } = {},
  ): Promise<[number, number]> {
    const leg = (side: 0 | 1): string => `udp ${this.way(side, ports, families[side])} 600 ${size} 60 ${enough}`;
    const outputs = await this.legs(leg(0), leg(1));
    return outputs.map((output) => Number(/received (\d+)/.exec(output)![1])) as [number, number];
  }

  /** A first client gives up before its peer comes. @returns what is said until that one has ended, and its status */
  async meetOneThatGaveUp(ports: readonly [number, number]): Promise<string> {
    const { output } = await this.shell.run(`
      ip netns exec a timeout 1 ${this.bin}/leg tcp ${this.way(0, ports)} 10 1 10 2
      ip netns exec b timeout 20 ${this.bin}/leg tcp ${this.way(1, ports)} 10 2 10 1
      echo status $?
    `);
    return output;
  }

  /** Both send datagrams, and `b` ends long before `a`. @returns what `a` said */
  async outliveListener(ports: readonly [number, number], families: Families = [4, 4]): Promise<string> {
    const [a] = await this.legs(
      `udp ${this.way(0, ports, families[0])} 60 100 8`,
      `udp ${this.way(1, ports, families[1])} 20 100 2`,
    );
    return a;
  }

  /** Forged RSTs with numbers all over the sequence space, in the name of both ends of a splice. */
  async forgeResets(ports: readonly [number, number], from: readonly [number, number], count: number): Promise<void> {
    const forged = (end: string): string =>
      Array.from({ length: count }, (_, n) => `${end} > R seq ${(n * 357_913_941 + 1) % 2 ** 32}`).join("\n");
    const { a, b } = HOSTS;
    await this.shell.run(`
      ${this.bin}/wire a ${a.v4} ${from[0]} ${a.ist4} ${ports[0]} b ${b.v4} ${from[1]} ${b.ist4} ${ports[1]} <<END
${forged("a")}
${forged("b")}
END
    `);
  }

  /** Very many connections at once, at cells in a row. @returns what the processes said */
  crowd({ cells, pairs, bytes, meanwhile, processes = 1, timeoutMs, onOneCpu }: CrowdOptions): Promise<string> {
    const own = cells / processes;
    const crowd = `${this.bin}/crowd ${own} ${pairs / processes} ${bytes}`;
    const script = `sh -e ${this.scratch}/meanwhile`;
    return this.shell.check(
      `
      cat >${this.scratch}/meanwhile <<'MEANWHILE'\n${meanwhile}\nMEANWHILE
      ${onOneCpu ? "taskset -c 0" : ""} ${crowd} "${processes === 1 ? script : `${crowd} '${script}' ${20_000 + 2 * own}`}"
      `,
      timeoutMs,
    );
  }

  /** A command that sends SYNs from `host` at a fixed rate. @param from a prefix */
  floodCommand(host: "a" | "b", from: string, port: number | string, perSecond: number, seconds: number): string {
    const { ist4 } = this.addresses[host];
    return `ip netns exec ${host} ${this.bin}/flood ${from} ${ist4} ${port} ${perSecond} ${seconds}`;
  }

  /** Runs it. @returns how many it sent */
  async flood(...words: Parameters<Relay["floodCommand"]>): Promise<number> {
    return Number(/sent (\d+)/.exec(await this.shell.check(this.floodCommand(...words)))![1]);
  }

  /** What the relay sends to `net` by its first interface while `body` runs. @returns packets */
  async sentTo(net: string, body: () => Promise<void>): Promise<number> {
    const at = this.scratch;
    const capture = this.shell.check(`
      ip netns exec i tcpdump -Z root -nni i0 -w ${at}/capture 'src host ${this.addresses.a.ist4} and dst net ${net}' 2>${at}/captured &
      while ! grep -q listening ${at}/captured; do sleep 0.1; done
      echo $! >${at}/capturing
      wait $!
      sed -n 's/ packets captured//p' ${at}/captured
    `);
    await this.shell.check(`while [ ! -s ${at}/capturing ]; do sleep 0.1; done`);
    await body();
    await this.shell.check(`sleep 0.5; kill -INT $(cat ${at}/capturing); rm ${at}/capturing`);
    return Number((await capture).trim().split("\n").at(-1));
  }

  /** @throws Error when it is not so within a minute, or `ms` */
  async until(what: string, isSo: () => Promise<boolean>, ms = POLLS_MS): Promise<void> {
    const deadline = Date.now() + ms;
    while (!(await isSo())) {
      if (Date.now() > deadline) throw new Error(`not within ${ms} ms: ${what}`);
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  /** Waits until both ends of an allocation's newest splice are connected. */
  untilEstablished(id: number): Promise<void> {
    const isSo = async (): Promise<boolean> => (await this.splices(id)).at(-1)?.state === "established";
    return this.until(`a splice of ${id} is established`, isSo);
  }

  /** A counter of a host's stack, by its name in nstat. */
  async counter(host: "a" | "b", name: string): Promise<number> {
    return Number((await this.on(host, `nstat -asz ${name} | awk '/^${name}/ { print $2 }'`)).trim());
  }

  /** What the stacks of all hosts counted as wrong checksums since they came up. */
  async checksumErrors(): Promise<number> {
    const output = await this.shell.check(
      "for host in $(ls /run/netns); do ip netns exec $host nstat -asz | grep -i csumerr; done | awk '{ s += $2 } END { print s }'",
    );
    return Number(output.trim());
  }
}
