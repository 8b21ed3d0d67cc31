import { randomInt } from "node:crypto";
import { deadline, orAborted } from "../deadline.ts";
import {
  type CallOptions,
  checkedRequest,
  checkKey,
  type Gateway,
  type Mapping,
  type MappingKey,
  type MapRequest,
} from "../gateway.ts";
import { PortmapError } from "../portmap-error.ts";
import { type Description, parseDescription } from "./description.ts";
import { httpRequest } from "./http.ts";
import { FAULT } from "./upnp-fault.ts";
import { type CallBounds, WanConnection, type WantedEntry } from "./wan-connection.ts";

const MOST_DESCRIPTION_BYTES = 65_536;
/** More than any home has. A gateway that claims more is not believed. */
const MOST_ENTRIES = 8192;
/** Entries asked for at a time. */
const LIST_STRIDE = 4;
/** A gateway that gives the same entries again and again does not count. */
const MOST_REPEATED = 4 * LIST_STRIDE;
/** Ports tried for `anyPort` where the gateway cannot choose one itself. */
const ANY_PORT_ATTEMPTS = 8;
/** A mapping that was made within that time is still this host's: no gateway starts anew so quickly and gives it away. */
const FRESH_MS = 5000;
/** What lease 0 becomes (WANIPConnection:2, 2.3.20). */
const LONGEST_LEASE_V2_S = 604_800;

export interface UpnpGatewayOptions {
  /** Of the description. */
  location: URL;
  /** The own address to ask from. @default the system's choice */
  localAddress?: string | undefined;
  /** Every address of this host: an entry for one of them is no other host's. */
  ownAddresses: () => readonly string[];
}

/** A gateway that speaks UPnP IGD, version 1 or 2. */
export class UpnpGateway implements Gateway {
  readonly kind = "upnp";
  readonly capabilities = { lookUp: true, list: true };
  readonly #options: UpnpGatewayOptions;
  /** What this object has mapped, and when: by `performance.now()`. */
  readonly #made = new Map<string, number>();
  #connection: Promise<WanConnection> | undefined;
  #name = "";
  #hasPermanentOnly = false;

  constructor(options: UpnpGatewayOptions) {
    this.#options = options;
  }

  get address(): string {
    return this.#options.location.hostname;
  }

  get location(): URL {
    return this.#options.location;
  }

  /** What the device calls itself, once it was asked. */
  get name(): string {
    return this.#name;
  }

  /** The service that maps ports; its description is fetched once. */
  async connect(signal: AbortSignal): Promise<WanConnection> {
    this.#connection ??= this.#describe();
    return orAborted(this.#connection, signal);
  }

  /** Fetches the description again at the next call: the gateway has started anew. */
  forget(): void {
    this.#connection = undefined;
    for (const key of this.#made.keys()) this.#made.set(key, Number.NEGATIVE_INFINITY);
  }

  async map(request: MapRequest, options: CallOptions = {}): Promise<Mapping> {
    const { anyPort, ...entry } = checkedRequest(request);
    const bounds = boundsOf(options);
    return this.#ask(bounds, async (connection) => {
      const wanted = { ...entry, remoteHost: "" };
      const mapping = anyPort
        ? await this.#addAny(connection, wanted, bounds)
        : await this.#add(connection, wanted, bounds);
      this.#made.set(keyOf(mapping), performance.now());
      return mapping;
    });
  }

  async unmap(key: MappingKey, options: CallOptions = {}): Promise<void> {
    checkKey(key);
    const bounds = boundsOf(options);
    await this.#ask(bounds, async (connection) => {
      const isFresh = performance.now() - (this.#made.get(keyOf(key)) ?? Number.NEGATIVE_INFINITY) < FRESH_MS;
      if (!isFresh && !(await this.#isOurs(connection, key, bounds))) return;
      await remove(connection, key, bounds);
      this.#made.delete(keyOf(key));
    });
  }

  async lookUp(key: MappingKey, options: CallOptions = {}): Promise<Mapping | undefined> {
    checkKey(key);
    const bounds = boundsOf(options);
    return this.#ask(bounds, (connection) => find(connection, key, bounds));
  }

  async list(options: CallOptions = {}): Promise<Mapping[]> {
    const bounds = boundsOf(options);
    return this.#ask(bounds, (connection) => listEntries(connection, bounds));
  }

  async externalAddress(options: CallOptions = {}): Promise<string> {
    const bounds = boundsOf(options);
    return this.#ask(bounds, (connection) => connection.getExternalIpAddress(bounds));
  }

  async probe(options: CallOptions = {}): Promise<string | undefined> {
    try {
      return await this.externalAddress(options);
    } catch (error) {
      // A gateway whose own uplink is down is there all the same.
      if (isFault(error) || (error instanceof PortmapError && error.code === "failed")) return undefined;
      throw error;
    }
  }

  async #ask<T>(bounds: CallBounds, act: (connection: WanConnection) => Promise<T>): Promise<T> {
    try {
      return await act(await this.connect(bounds.signal));
    } catch (error) {
      // Its control port may be another one since it started anew.
      if (error instanceof PortmapError && error.code === "unreachable") this.forget();
      throw error;
    }
  }

  /** For all callers at once, so none of them may end it. A failure is not remembered. */
  #describe(): Promise<WanConnection> {
    const connection = this.#fetchDescription(boundsOf({}));
    connection.catch(() => {
      if (this.#connection === connection) this.forget();
    });
    return connection;
  }

  async #fetchDescription(bounds: CallBounds): Promise<WanConnection> {
    const { location, localAddress } = this.#options;
    const answer = await httpRequest({
      url: location,
      method: "GET",
      localAddress,
      mostBytes: MOST_DESCRIPTION_BYTES,
      signal: bounds.signal,
    });
    if (answer.status !== 200) {
      throw new PortmapError("malformed", `the gateway's description came with HTTP status ${answer.status}`);
    }
    const description = parseDescription(answer.text, location);
    this.#name = description.name;
    return chooseConnection(description, answer.localAddress, localAddress, bounds);
  }

  /** One mapping at the port that is wanted. */
  async #add(connection: WanConnection, wanted: WantedEntry, bounds: CallBounds): Promise<Mapping> {
    try {
      return await this.#addLeased(wanted, connection, (entry) =>
        connection.addPortMapping(entry, bounds).then(() => entry.externalPort),
      );
    } catch (error) {
      if (!isFault(error, FAULT.conflict)) throw error;
      return this.#settleConflict(connection, wanted, error, bounds);
    }
  }

  /** 718 has several meanings: only the entry shows whose the port is. */
  async #settleConflict(
    connection: WanConnection,
    wanted: WantedEntry,
    conflict: PortmapError,
    bounds: CallBounds,
  ): Promise<Mapping> {
    const client = wanted.internalAddress ?? connection.localAddress;
    const entry = await find(connection, wanted, bounds).catch((error) => {
      if (isFault(error)) return undefined;
      throw error;
    });
    if (!entry) throw conflict;
    if (entry.internalAddress !== client) {
      if (this.#options.ownAddresses().includes(entry.internalAddress)) throw conflict;
      throw conflictWith(entry, conflict.gatewayCode);
    }
    const isEnough = entry.lifetimeSeconds === 0 || entry.lifetimeSeconds * 2 >= wanted.lifetimeSeconds;
    if (entry.internalPort === wanted.internalPort && entry.enabled && isEnough) return entry;
    // This gateway does not renew: the old entry, which is this host's, has to go first.
    await remove(connection, wanted, bounds);
    try {
      return await this.#addLeased(wanted, connection, (again) =>
        connection.addPortMapping(again, bounds).then(() => again.externalPort),
      );
    } catch (error) {
      if (!(error instanceof PortmapError) || !error.untouched) throw error;
      throw new PortmapError(error.code, error.message, { cause: error });
    }
  }

  async #addAny(connection: WanConnection, wanted: WantedEntry, bounds: CallBounds): Promise<Mapping> {
    if (connection.service.version >= 2) {
      return this.#addLeased(wanted, connection, (entry) => connection.addAnyPortMapping(entry, bounds));
    }
    let next = wanted;
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#add(connection, next, bounds);
      } catch (error) {
        const isTaken = error instanceof PortmapError && (error.code === "conflict" || error.code === "denied");
        if (!isTaken || attempt === ANY_PORT_ATTEMPTS) throw error;
        next = { ...wanted, externalPort: randomInt(1024, 65_536) };
      }
    }
  }

  /** Adds with a lease, or without an end where the gateway knows nothing else. */
  async #addLeased(
    wanted: WantedEntry,
    connection: WanConnection,
    add: (entry: WantedEntry) => Promise<number>,
  ): Promise<Mapping> {
    const entry = this.#hasPermanentOnly ? { ...wanted, lifetimeSeconds: 0 } : wanted;
    try {
      return mappingOf(entry, await add(entry), connection);
    } catch (error) {
      if (!isFault(error, FAULT.permanentLeasesOnly) || entry.lifetimeSeconds === 0) throw error;
      const permanent = { ...wanted, lifetimeSeconds: 0 };
      const externalPort = await add(permanent);
      this.#hasPermanentOnly = true;
      return { ...mappingOf(permanent, externalPort, connection), lifetimeSeconds: 0 };
    }
  }

  /** Whether there is an entry and it is this host's. @throws PortmapError `conflict` when it is another's */
  async #isOurs(connection: WanConnection, key: MappingKey, bounds: CallBounds): Promise<boolean> {
    let entry: Mapping | undefined;
    try {
      entry = await find(connection, key, bounds);
    } catch (error) {
      const cannotTell = error instanceof PortmapError && error.code === "unsupported";
      if (cannotTell && this.#made.has(keyOf(key))) return true;
      throw error;
    }
    if (!entry) return false;
    const { internalAddress } = entry;
    if (internalAddress === connection.localAddress || this.#options.ownAddresses().includes(internalAddress)) {
      return true;
    }
    throw conflictWith(entry);
  }
}

function boundsOf(options: CallOptions): CallBounds {
  return { signal: deadline(options), withdraw: options.withdraw, background: options.background };
}

function keyOf({ protocol, externalPort }: MappingKey): string {
  return `${protocol} ${externalPort}`;
}

function conflictWith({ internalAddress }: Mapping, gatewayCode?: number): PortmapError {
  return new PortmapError("conflict", `the port belongs to ${internalAddress}`, {
    holder: internalAddress,
    ...(gatewayCode !== undefined && { gatewayCode }),
  });
}

function isFault(error: unknown, ...numbers: number[]): error is PortmapError {
  if (!(error instanceof PortmapError) || error.gatewayCode === undefined) return false;
  return numbers.length === 0 || numbers.includes(error.gatewayCode);
}

function mappingOf(entry: WantedEntry, externalPort: number, { service, localAddress }: WanConnection): Mapping {
  const { protocol, internalPort, internalAddress = localAddress, description, lifetimeSeconds, remoteHost } = entry;
  return {
    protocol,
    externalPort,
    internalAddress,
    internalPort,
    lifetimeSeconds: lifetimeSeconds === 0 && service.version >= 2 ? LONGEST_LEASE_V2_S : lifetimeSeconds,
    description,
    enabled: true,
    remoteHost,
  };
}

async function find(connection: WanConnection, key: MappingKey, bounds: CallBounds): Promise<Mapping | undefined> {
  const { protocol, externalPort } = key;
  try {
    return await connection.getSpecificPortMappingEntry({ protocol, externalPort }, bounds);
  } catch (error) {
    if (isFault(error, FAULT.noSuchEntry, FAULT.noSuchMapping)) return undefined;
    throw error;
  }
}

async function remove(connection: WanConnection, key: MappingKey, bounds: CallBounds): Promise<void> {
  const { protocol, externalPort } = key;
  try {
    await connection.deletePortMapping({ protocol, externalPort }, bounds);
  } catch (error) {
    if (!isFault(error, FAULT.noSuchEntry, FAULT.noSuchMapping)) throw error;
  }
}

/** Entries come by index, and indexes move when somebody maps meanwhile: an entry may come twice, rarely not at all. */
async function listEntries(connection: WanConnection, bounds: CallBounds): Promise<Mapping[]> {
  const found = new Map<string, Mapping>();
  let repeated = 0;
  for (let index = 0; index < MOST_ENTRIES && repeated < MOST_REPEATED; index += LIST_STRIDE) {
    const answers = await Promise.allSettled(
      Array.from({ length: LIST_STRIDE }, (_, offset) => connection.getGenericPortMappingEntry(index + offset, bounds)),
    );
    for (const [offset, answer] of answers.entries()) {
      if (answer.status === "fulfilled") {
        const name = `${keyOf(answer.value)} ${answer.value.remoteHost}`;
        if (found.has(name)) repeated++;
        found.set(name, answer.value);
      } else if (isFault(answer.reason, FAULT.noSuchIndex, FAULT.noSuchEntry)) {
        return [...found.values()];
      } else if (isFault(answer.reason) && index + offset > 0) {
        // Gateways end their lists with faults of all sorts.
        return [...found.values()];
      } else {
        throw answer.reason;
      }
    }
  }
  throw new PortmapError("malformed", "the gateway's list of mappings has no end");
}

async function chooseConnection(
  { services }: Description,
  localAddress: string,
  bindTo: string | undefined,
  bounds: CallBounds,
): Promise<WanConnection> {
  const connections = services.map((service) => new WanConnection(service, localAddress, bindTo));
  if (connections.length > 1) {
    for (const connection of connections) {
      const isUp = await connection.isConnected(bounds).catch((error) => {
        if (isFault(error)) return false;
        throw error;
      });
      if (isUp) return connection;
    }
  }
  return connections[0]!;
}
