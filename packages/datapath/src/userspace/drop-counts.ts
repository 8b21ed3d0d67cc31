import type { DatagramDrop } from "../data-path.ts";

/** Datagrams that were not forwarded, by reason. */
export class DropCounts {
  readonly byReason: Partial<Record<DatagramDrop, number>> = {};

  count(reason: DatagramDrop): void {
    this.byReason[reason] = (this.byReason[reason] ?? 0) + 1;
  }
}
