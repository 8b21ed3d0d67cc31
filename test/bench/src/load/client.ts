/**
 * A program that uses a service over TCP and looks at its watch. All processes of a host have one monotonic clock, so
 * that a service's time stamp can be compared with this program's.
 */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { DaemonClient } from "@isthmus/agent/client";
import { parseHostPort } from "@isthmus/protocol";
import { quantile } from "../statistics.ts";
import { serveCommands } from "./commands.ts";

interface Address {
  host: string;
  port: number;
}

/** Milliseconds to the first byte's arrival at the service. */
export interface FirstConnection {
  /** From the call of `subscribe` on. */
  subscribeMs: number;
  /** From the start of connect() on, right after `subscribe` has returned. */
  connectMs: number;
}

const held: Socket[] = [];

const now = (): bigint => process.hrtime.bigint();
const millisecondsSince = (start: bigint, end = now()): number => Number(end - start) / 1e6;

async function open({ host, port }: Address): Promise<Socket> {
  const socket = connect({ host, port, noDelay: true });
  await once(socket, "connect");
  return socket;
}

/** @throws Error when the connection ends before an answer came */
async function openThrough(address: Address): Promise<Socket> {
  const socket = await open(address);
  socket.write("h");
  const closed = once(socket, "close").then(() => {
    throw new Error("the connection was closed");
  });
  await Promise.race([once(socket, "data"), closed]);
  closed.catch(() => undefined);
  return socket;
}

/** Connects, and sends a byte at once. @returns when it came to a service that stamps */
async function arrivalOf(address: Address): Promise<bigint> {
  const socket = connect({ ...address, noDelay: true });
  socket.write("c");
  const [stamp] = (await once(socket, "data")) as [Buffer];
  socket.destroy();
  return stamp.readBigUInt64BE();
}

await serveCommands({
  /** Sends a byte as soon as it may. @returns milliseconds from the start of connect() to the byte's arrival */
  firstByte: async (address: Address): Promise<number> => {
    const start = now();
    return millisecondsSince(start, await arrivalOf(address));
  },

  /** Subscribes to a service with the daemon at that socket, sends a byte there, and unsubscribes again. */
  firstConnection: async ({ socket, service }: { socket: string; service: string }): Promise<FirstConnection> => {
    // The daemon is another user's.
    const daemon = new DaemonClient(socket, { isSystem: true });
    const start = now();
    const { listen } = await daemon.call("subscribe", { service });
    const subscribed = now();
    const arrived = await arrivalOf(parseHostPort(listen[0]!.address)!);
    await daemon.call("unsubscribe", { service });
    return { subscribeMs: millisecondsSince(start, arrived), connectMs: millisecondsSince(subscribed, arrived) };
  },

  /** Waits for the service to speak. @returns milliseconds from the start of connect() */
  banner: async (address: Address): Promise<number> => {
    const start = now();
    const socket = connect({ ...address, noDelay: true });
    await once(socket, "data");
    const took = millisecondsSince(start);
    socket.destroy();
    return took;
  },

  /** One byte there and back over one connection, again and again; milliseconds each. */
  roundTrips: async ({ warmUp, count, ...address }: Address & { warmUp: number; count: number }) => {
    const socket = await open(address);
    const times: number[] = [];
    for (let index = -warmUp; index < count; index++) {
      const start = now();
      socket.write("p");
      await once(socket, "data");
      if (index >= 0) times.push(millisecondsSince(start));
    }
    socket.destroy();
    return { median: quantile(times, 0.5), p99: quantile(times, 0.99) };
  },

  /**
   * Opens connections that go through to the service (each echoes a byte), and keeps them idle.
   * @returns how many were lost before they were through; others were opened in their places
   */
  hold: async ({ count, atOnce, ...address }: Address & { count: number; atOnce: number }) => {
    let left = count;
    let lost = 0;
    const openSome = async (): Promise<void> => {
      while (left > 0) {
        left--;
        try {
          held.push(await openThrough(address));
        } catch (error) {
          if (++lost > count) throw error;
          left++;
        }
      }
    };
    await Promise.all(Array.from({ length: atOnce }, openSome));
    return lost;
  },

  release: async () => {
    const closed = held.map((socket) => once(socket, "close"));
    for (const socket of held.splice(0)) socket.destroy();
    await Promise.all(closed);
  },
});
