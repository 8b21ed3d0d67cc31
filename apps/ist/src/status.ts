import type { RelayStatus } from "@isthmus/relay";

/** Where a running IST says how it is. */
export const STATUS_PATH = "/status";
/** How long it may take to answer. */
const TIMEOUT_MS = 10_000;

/** @param listen of the admin endpoint @throws Error with words for the user */
export async function readStatus(listen: string): Promise<RelayStatus> {
  const url = `http://${listen}${STATUS_PATH}`;
  let response: Response;
  try {
    response = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS) });
  } catch (cause) {
    throw new Error(`no IST answers at ${url}: is it running?`, { cause });
  }
  if (!response.ok) throw new Error(`the IST at ${listen} is not up: ${await response.text()}`);
  return (await response.json()) as RelayStatus;
}

/** For people. */
export function statusText(status: RelayStatus): string {
  const { dataPath, brokers } = status;
  const lines = [
    `key        ${status.key}`,
    `addresses  ${status.addresses.join(", ")}`,
    `data path  ${dataPath.driver}: ${dataPath.reason}`,
    ...(dataPath.problem ? [`           ${dataPath.problem}: legs meet at the stream endpoint alone`] : []),
    `use        ${status.allocations} allocations, ${status.cells} cells, ${status.splices} splices (${status.pureSplices} pure), ` +
      `${status.sessions} sessions`,
    ...brokers.map(({ fingerprint, up, problem = "connecting" }) => `ISB        ${fingerprint} ${up ? "up" : problem}`),
    ...(brokers.length === 0 ? ["ISB        none: join one by an invite"] : []),
    ...(status.draining ? ["draining"] : []),
  ];
  return `${lines.join("\n")}\n`;
}
