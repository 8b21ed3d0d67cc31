import { getSystemErrorMessage } from "node:util";
import { socketsBinding } from "./available.ts";
import type { DoorHandle, ShownSocket, SocketsBinding } from "./binding.ts";

/** A process at the door, as the kernel knows it. */
export interface DoorPeer {
  readonly id: number;
  readonly uid: number;
  readonly pid: number;
}

export interface SocketDoorOptions {
  /** Of the Unix socket; nothing may be there. */
  path: string;
  /** Of its file. */
  mode: number;
  onConnect?: (peer: DoorPeer) => void;
  /** The sockets stay open until it returns; null is no socket of IPv4 or IPv6. */
  onMessage: (peer: DoorPeer, bytes: Uint8Array, sockets: readonly (ShownSocket | null)[]) => void;
  onClose?: (peer: DoorPeer) => void;
}

/** The network namespace of this process, as {@link ShownSocket} names it. @throws Error without the add-on */
export function ownNetwork(): string {
  return socketsBinding().ownNetwork();
}

/** A Unix socket at which other processes show sockets of theirs, as proof of what they hold. */
export class SocketDoor {
  readonly #binding: SocketsBinding;
  readonly #handle: DoorHandle;
  readonly #peers = new Map<number, DoorPeer>();

  /** @throws Error without the add-on, or the system's */
  constructor({ path, mode, onConnect, onMessage, onClose }: SocketDoorOptions) {
    this.#binding = socketsBinding();
    const handle = this.#binding.open(
      path,
      mode,
      (id, uid, pid) => {
        const peer = { id, uid, pid };
        this.#peers.set(id, peer);
        onConnect?.(peer);
      },
      (id, bytes, sockets) => {
        const peer = this.#peers.get(id);
        if (peer) onMessage(peer, bytes, sockets);
      },
      (id) => {
        const peer = this.#peers.get(id);
        this.#peers.delete(id);
        if (peer) onClose?.(peer);
      },
    );
    if (typeof handle === "number") throw new Error(`${path}: ${getSystemErrorMessage(handle)}`);
    this.#handle = handle;
  }

  /** Who is connected. */
  get peers(): readonly DoorPeer[] {
    return [...this.#peers.values()];
  }

  /** Sends to a peer; one that has gone or does not read loses its connection. */
  answer(peer: DoorPeer, bytes: Uint8Array): void {
    if (this.#binding.answer(this.#handle, peer.id, bytes) < 0) this.drop(peer);
  }

  /** Ends a connection; `onClose` is not called. */
  drop(peer: DoorPeer): void {
    this.#peers.delete(peer.id);
    this.#binding.drop(this.#handle, peer.id);
  }

  /** Ends all. The file stays. */
  close(): void {
    this.#peers.clear();
    this.#binding.close(this.#handle);
  }
}
