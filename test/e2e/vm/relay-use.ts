import { type Ist, until } from "@isthmus/e2e";
import type { GuestNode } from "@isthmus/vm";

/** What an IST's machine has used up to a moment, or between two. */
export interface Use {
  /** Forwarded at cells, as the module counts it. */
  kernelBytes: number;
  /** Read and written by the IST's process, of sockets and everything else. */
  processBytes: number;
  /** CPU time of the process itself, without what its system did meanwhile, as a share of one CPU. */
  processBusy: number;
  /** Sent and received by TCP sockets of the machine. */
  segments: number;
  /** Received by UDP sockets. */
  datagrams: number;
}

interface Counters extends Omit<Use, "processBusy"> {
  processTicks: number;
  uptimeTicks: number;
}

/** USER_HZ, which Linux fixes for all that user space sees. */
const TICKS_PER_SECOND = 100;

/** Reads what an IST in a virtual machine uses: by its process, its sockets, its module. */
export class RelayUse {
  readonly #ist: Ist;
  readonly #node: GuestNode;

  constructor(ist: Ist, node: GuestNode) {
    this.#ist = ist;
    this.#node = node;
  }

  async now(): Promise<Counters> {
    const process = `/proc/${this.#ist.program.pid}`;
    const kernelBytes = await this.#ist.metric('isthmus_ist_bytes_total{at="cell"}');
    const text = await this.#node.script(`
cat ${process}/io
sed 's/.*) /stat: /' ${process}/stat
sed 's/^/uptime: /' /proc/uptime
nstat -asz TcpInSegs TcpOutSegs UdpInDatagrams Udp6InDatagrams
`);
    const sum = (pattern: RegExp) =>
      [...text.matchAll(pattern)].reduce((total, [, number]) => total + Number(number), 0);
    const stat = /^stat: (.*)$/m.exec(text)![1]!.split(" ");
    return {
      kernelBytes,
      processBytes: sum(/^[rw]char: (\d+)$/gm),
      segments: sum(/^Tcp(?:In|Out)Segs\s+(\d+)/gm),
      datagrams: sum(/^Udp6?InDatagrams\s+(\d+)/gm),
      processTicks: Number(stat[11]),
      uptimeTicks: sum(/^uptime: ([\d.]+)/gm) * TICKS_PER_SECOND,
    };
  }

  /** What was used since then, as soon as the module has counted so many bytes. */
  async whenKernelMoved(before: Counters, leastBytes: number): Promise<Use> {
    const after = await until(`the module has forwarded ${leastBytes} bytes`, async () => {
      const counters = await this.now();
      return counters.kernelBytes - before.kernelBytes >= leastBytes ? counters : undefined;
    });
    const more = (key: keyof Counters) => after[key] - before[key];
    return {
      kernelBytes: more("kernelBytes"),
      processBytes: more("processBytes"),
      processBusy: more("processTicks") / more("uptimeTicks"),
      segments: more("segments"),
      datagrams: more("datagrams"),
    };
  }
}
