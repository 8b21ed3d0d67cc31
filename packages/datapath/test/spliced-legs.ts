import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import type { AllocationLimits, Code } from "@isthmus/protocol";
import { onTestFinished } from "vitest";
import { LEG_SOCKETS, type Leg, SocketSplicer, SpliceTally, WaitingLeg } from "../src/index.ts";
import { TestLeg } from "../src/testing.ts";

export const NO_LIMITS: AllocationLimits = {
  splices: 0,
  idleMs: 0,
  totalMs: 0,
  bytes: 0,
  bytesPerSecond: 0,
  halfMs: 3500,
};

/** A splicer between real sockets of this process. */
export class SpliceBench {
  readonly splicer: SocketSplicer;
  readonly tally = new SpliceTally();
  readonly #server = createServer(LEG_SOCKETS);

  private constructor(splicer: SocketSplicer) {
    this.splicer = splicer;
  }

  /** @param splicer by default one without the pump */
  static async start(limits: Partial<AllocationLimits> = {}, splicer = new SocketSplicer({})): Promise<SpliceBench> {
    const bench = new SpliceBench(splicer);
    bench.splicer.open("a", { ...NO_LIMITS, ...limits });
    bench.#server.listen(0, "127.0.0.1");
    await once(bench.#server, "listening");
    onTestFinished(() => bench.close());
    return bench;
  }

  /** A leg: the test's end, and the splicer's. */
  async leg(): Promise<{ end: TestLeg; waiting: WaitingLeg; gone: Promise<void> }> {
    const accepted = once(this.#server, "connection") as Promise<[Socket]>;
    const { port } = this.#server.address() as AddressInfo;
    const end = new TestLeg(connect({ port, host: "127.0.0.1", allowHalfOpen: true, noDelay: true }));
    const [socket] = await accepted;
    const gone = Promise.withResolvers<void>();
    return { end, waiting: new WaitingLeg(socket, gone.resolve), gone: gone.promise };
  }

  /** @returns how the splice ended, or why it was refused */
  splice(legs: [Leg, Leg]): Promise<Code> {
    const closed = Promise.withResolvers<Code>();
    const refusal = this.splicer.splice({
      allocation: "a",
      legs,
      tally: this.tally,
      onClosed: (_, code) => closed.resolve(code),
    });
    if (refusal !== undefined) closed.resolve(refusal);
    return closed.promise;
  }

  close(): void {
    this.splicer.close("a", "released");
    this.#server.close();
  }
}
