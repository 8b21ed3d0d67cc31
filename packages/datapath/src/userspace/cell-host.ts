import type { DatagramRelay } from "@isthmus/native/datagrams";
import type { Code, Side } from "@isthmus/protocol";
import type { DataPathEvent } from "../data-path.ts";
import type { SocketSplicer } from "../splice/socket-splicer.ts";
import type { SpliceAccount } from "../splice/splice-account.ts";
import type { SpliceTally } from "../splice/tally.ts";
import type { DropCounts } from "./drop-counts.ts";

/** What a cell needs of its allocation and its driver. */
export interface CellHost {
  readonly allocation: string;
  readonly account: SpliceAccount;
  readonly splicer: SocketSplicer;
  readonly tally: SpliceTally;
  readonly drops: DropCounts;
  readonly udpIdleMs: number;
  /** Moves the datagrams, where there is one. */
  readonly datagrams: DatagramRelay | undefined;
  /** The prefixes from which legs of each side are expected. */
  readonly sources: readonly [ReadonlySet<string>, ReadonlySet<string>];
  /** Whether a leg of this side may come from the address. */
  expects(side: Side, address: string): boolean;
  emit(event: DataPathEvent): void;
  /** An unpaired leg came (+1) or is no longer one (-1). */
  countHalves(change: 1 | -1): void;
}

/** What happened to an unpaired leg at a cell. */
export function halfClosed(host: CellHost, cell: number, proto: "tcp" | "udp", code: Code): void {
  host.countHalves(-1);
  host.tally.countClosed(code);
  host.emit({ event: "closed", allocation: host.allocation, cell, proto, code });
}
