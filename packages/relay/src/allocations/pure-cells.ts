import type { CellPorts, CellSpec, PureCell } from "@isthmus/datapath";
import { LIMITS, type Side } from "@isthmus/protocol";
import { cellsToAdd } from "./cell-plan.ts";

/** Which sides' legs can have a source port of their daemon's choice, and reach the IST with it. */
export type KeepsPorts = readonly [boolean, boolean];

/** What an IST can offer beside passive cells. */
export interface Offered {
  /** Ports that both sides agree on. */
  agreed: boolean;
  /** Ports that one side learns. */
  learned: boolean;
}

/**
 * The kinds of pure cells for one side's opens. Ports that are agreed on cost no message, but serve one connection at a
 * time and none for a while after it; a port that is learned costs one message and serves any number. Pure.
 */
function kindsFor(opener: Side, keeps: KeepsPorts, offered: Offered): PureCell[] {
  const learned = offered.learned ? learnedFor(opener, keeps) : undefined;
  return [...(offered.agreed && keeps[0] && keeps[1] ? [{}] : []), ...(learned ? [learned] : [])];
}

/**
 * The kind of pure cell of which one side's opens can have any number; nothing where no side keeps its ports. Best it is
 * the opener's port that is learned: the word of it is as fast as that of the open. Pure.
 */
export function learnedFor(opener: Side, keeps: KeepsPorts): PureCell | undefined {
  const answerer = opener === 0 ? 1 : 0;
  if (keeps[answerer]) return { learns: opener };
  return keeps[opener] ? { learns: answerer } : undefined;
}

/**
 * The cells of an allocation once it is known which sides keep their ports: pure ones that cannot be any more are left
 * out, and there is one of each kind for each opener. Pure.
 */
export function withPureCells(cells: readonly CellPorts[], keeps: KeepsPorts, offered: Offered): CellSpec[] {
  const specs: CellSpec[] = cells.filter(({ pure }) => !pure || isPossible(pure, keeps, offered));
  for (const opener of [0, 1] as const) {
    for (const pure of kindsFor(opener, keeps, offered)) {
      const own = specs.filter(({ cell }) => cell % 2 === opener);
      if (own.some((spec) => spec.pure?.learns === pure.learns && spec.pure)) continue;
      if (own.length === LIMITS.cellsPerAllocation / 2) continue;
      const numbers = specs.map(({ cell }) => cell);
      specs.push(...cellsToAdd(numbers, opener, 1).map((cell) => ({ cell, pure })));
    }
  }
  return specs.sort((a, b) => a.cell - b.cell);
}

function isPossible({ learns }: PureCell, keeps: KeepsPorts, offered: Offered): boolean {
  if (learns === undefined) return offered.agreed && keeps[0] && keeps[1];
  return offered.learned && keeps[learns === 0 ? 1 : 0];
}
