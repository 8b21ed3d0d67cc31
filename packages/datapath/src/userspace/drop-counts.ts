import type { PacketDrop } from "../data-path.ts";

/** Datagrams that were not forwarded, by reason. */
export class DropCounts {
  readonly byReason: Partial<Record<PacketDrop, number>> = {};

  count(reason: PacketDrop): void {
    this.byReason[reason] = (this.byReason[reason] ?? 0) + 1;
  }
}
