import type { IstAlloc, IstCell } from "@isthmus/native/netlink";
import type { CellPorts } from "../data-path.ts";
import { cellPorts } from "./translation.ts";

/** What an allocation is held to, in the kernel's form. */
export type KernelSettings = Pick<IstAlloc, "sources" | "limits" | "timeouts">;

/** An allocation that the kernel has, and all that it takes to make it again. */
export class KernelAllocation {
  readonly id: bigint;
  #settings: KernelSettings;
  readonly #cells = new Map<number, CellPorts>();

  /** One that was there before this process. */
  static found(id: bigint, cells: readonly IstCell[], settings: KernelSettings): KernelAllocation {
    const found = new KernelAllocation(id, settings);
    found.add(cells.map(cellPorts));
    return found;
  }

  constructor(id: bigint, settings: KernelSettings) {
    this.id = id;
    this.#settings = settings;
  }

  get settings(): KernelSettings {
    return this.#settings;
  }

  /** In the order of their numbers. */
  get cells(): CellPorts[] {
    return [...this.#cells.values()].sort((a, b) => a.cell - b.cell);
  }

  has(cell: number): boolean {
    return this.#cells.has(cell);
  }

  get(cell: number): CellPorts | undefined {
    return this.#cells.get(cell);
  }

  change(settings: KernelSettings): void {
    this.#settings = { ...this.#settings, ...settings };
  }

  add(cells: readonly CellPorts[]): void {
    for (const each of cells) this.#cells.set(each.cell, each);
  }

  /** @returns the cells */
  remove(cells: readonly CellPorts[]): readonly CellPorts[] {
    for (const { cell } of cells) this.#cells.delete(cell);
    return cells;
  }
}
