/** What is known of an IST when one is chosen. */
export interface IstCandidate {
  key: string;
  draining: boolean;
  /** Allocations that it holds, and further ones that it could take. */
  allocations: number;
  room: number;
}

/**
 * The IST for a new allocation: of those that are logged in, the least loaded one with room, by the share of what it
 * can take. Equal ones are told apart by key, so that every broker chooses alike.
 * @param avoid keys that one of the two daemons cannot reach
 */
export function chooseIst<C extends IstCandidate>(candidates: Iterable<C>, avoid: ReadonlySet<string>): C | undefined {
  let best: C | undefined;
  for (const candidate of candidates) {
    if (candidate.draining || candidate.room <= 0 || avoid.has(candidate.key)) continue;
    if (!best || isBetter(candidate, best)) best = candidate;
  }
  return best;
}

function isBetter(a: IstCandidate, b: IstCandidate): boolean {
  const difference = loadOf(a) - loadOf(b);
  return difference < 0 || (difference === 0 && a.key < b.key);
}

function loadOf({ allocations, room }: IstCandidate): number {
  return allocations / (allocations + room);
}
