import { LIMITS } from "@isthmus/protocol";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Hello, PathHealth } from "../src/udp/path-health.ts";

/** What the way does to hellos: how long they take there and back, what is lost, what size passes. */
interface Way {
  rttMs: number;
  isLost: (hello: Hello, at: number) => boolean;
  bytes: number;
}

/** A path's health in simulated time, with its hellos on a way that may change. */
class Simulation {
  now = 0;
  way: Way;
  sent: { hello: Hello; at: number }[] = [];
  lastAnswerAt = Number.NEGATIVE_INFINITY;
  readonly health: PathHealth;
  #answers: { at: number; hello: Hello }[] = [];
  #traffic: number | undefined;
  #nextTraffic = 0;

  constructor(way: Partial<Way> = {}) {
    this.way = { rttMs: 20, isLost: () => false, bytes: LIMITS.datagramCeilingBytes, ...way };
    this.health = new PathHealth(0);
    this.health.ready(0);
  }

  /** @param everyMs how often application data is sent; nothing: never */
  traffic(everyMs: number | undefined): void {
    this.#traffic = everyMs;
    this.#nextTraffic = this.now;
  }

  run(ms: number): void {
    const until = this.now + ms;
    for (;;) {
      this.#answers.sort((a, b) => a.at - b.at);
      const nextData = this.#traffic === undefined ? Number.POSITIVE_INFINITY : this.#nextTraffic;
      const at = Math.min(
        this.#answers[0]?.at ?? Number.POSITIVE_INFINITY,
        this.health.wakeAt ?? Number.POSITIVE_INFINITY,
        nextData,
      );
      if (at > until) break;
      this.now = Math.max(this.now, at);
      if (this.#answers[0]?.at === at) {
        const { hello } = this.#answers.shift()!;
        this.lastAnswerAt = this.now;
        this.health.answered(hello.nonce, hello.bytes, this.now);
      } else if (at === nextData) {
        this.health.sent(this.now);
        this.#nextTraffic += this.#traffic!;
      }
      this.#tick();
    }
    this.now = until;
  }

  /** The process stands still, answers wait in the socket, and the timer comes first. */
  stall(ms: number): void {
    this.now += ms;
    this.#tick();
  }

  #tick(): void {
    for (const hello of this.health.tick(this.now)) {
      this.sent.push({ hello, at: this.now });
      if (hello.bytes > this.way.bytes || this.way.isLost(hello, this.now)) continue;
      this.#answers.push({ at: this.now + this.way.rttMs, hello });
    }
  }
}

const dead = (): boolean => true;

describe("a path's health", () => {
  it("is up after one answer, and given up after 5 s without any", () => {
    const good = new Simulation({ rttMs: 300 });
    good.run(299);
    expect(good.health.state).toBe("probing");
    good.run(2);
    expect(good.health.state).toBe("up");
    const never = new Simulation({ isLost: dead });
    never.run(4999);
    expect(never.health.state).toBe("probing");
    never.run(1);
    expect(never.health.state).toBe("dead");
    expect(never.sent.length).toBe(25);
    expect(never.health.wakeAt).toBeUndefined();
  });

  it("is dead within 2 s of the way's end, under traffic, at whatever moment it ends", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 150 }),
        fc.integer({ min: 0, max: 20_000 }),
        fc.integer({ min: 5, max: 900 }),
        (rttMs, aliveMs, everyMs) => {
          const path = new Simulation({ rttMs });
          path.traffic(everyMs);
          path.run(1000 + aliveMs);
          expect(path.health.state).toBe("up");
          path.way.isLost = dead;
          path.run(2000);
          expect(path.health.state).toBe("dead");
        },
      ),
      { numRuns: 300 },
    );
  });

  it("is dead within 2 s of the first datagram, when the way ended while nothing was sent", () => {
    const path = new Simulation();
    path.run(40_000);
    path.way.isLost = dead;
    path.run(3000);
    path.traffic(100);
    path.run(2000);
    expect(path.health.state).toBe("dead");
  });

  it("never ends while hellos are answered, however long the answers take and however many are lost in between", () => {
    const pattern = fc.infiniteStream(fc.boolean());
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1500 }), pattern, (rttMs, lost) => {
        const path = new Simulation({ rttMs });
        path.traffic(50);
        path.run(2 * rttMs + 1000);
        // Never more than two in a row: less than what it takes to make a path dead.
        let row = 0;
        path.way.isLost = ({ bytes }) => {
          if (bytes > LIMITS.datagramFloorBytes) return lost.next().value!;
          row = row < 2 && lost.next().value! ? row + 1 : 0;
          return row > 0;
        };
        path.run(60_000);
        expect(path.health.state).toBe("up");
      }),
      { numRuns: 100 },
    );
  });

  it("lives through a process that stood still", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2000 }), fc.integer({ min: 500, max: 20_000 }), (aliveMs, stallMs) => {
        const path = new Simulation();
        path.traffic(100);
        path.run(500 + aliveMs);
        path.stall(stallMs);
        expect(path.health.state).toBe("up");
        path.run(5000);
        expect(path.health.state).toBe("up");
      }),
    );
  });

  it("costs one hello in a second under traffic, one in 15 s without", () => {
    const path = new Simulation();
    path.run(1000);
    path.sent = [];
    path.run(150_000);
    expect(path.sent.length).toBe(10);
    path.traffic(10);
    path.sent = [];
    path.run(10_000);
    const small = path.sent.filter(({ hello }) => hello.bytes < LIMITS.datagramFloorBytes);
    expect(small.length).toBeGreaterThanOrEqual(10);
    expect(small.length).toBeLessThanOrEqual(12);
  });

  it("finds out that large datagrams pass", () => {
    const path = new Simulation();
    expect(path.health.bytes).toBe(LIMITS.datagramFloorBytes);
    path.run(1000);
    expect(path.health.bytes).toBe(LIMITS.datagramCeilingBytes);
  });

  it("stays at the floor where they do not pass, and does not go on about it", () => {
    const path = new Simulation({ bytes: 1300 });
    path.traffic(100);
    path.run(60_000);
    expect(path.health.bytes).toBe(LIMITS.datagramFloorBytes);
    expect(path.health.state).toBe("up");
    expect(path.sent.filter(({ hello }) => hello.bytes === LIMITS.datagramCeilingBytes).length).toBe(3);
    // A better route later on is found.
    path.way.bytes = 9000;
    path.run(660_000);
    expect(path.health.bytes).toBe(LIMITS.datagramCeilingBytes);
  });

  it("notices that they do not pass any more", () => {
    const path = new Simulation();
    path.traffic(100);
    path.run(5000);
    expect(path.health.bytes).toBe(LIMITS.datagramCeilingBytes);
    path.way.bytes = 1300;
    path.run(20_000);
    expect(path.health.bytes).toBe(LIMITS.datagramFloorBytes);
    expect(path.health.state).toBe("up");
  });

  it("is not fooled by an answer that says less arrived, nor by one to nothing", () => {
    const health = new PathHealth(0);
    health.ready(0);
    const [first] = health.tick(0);
    health.answered(999n, 1452, 10);
    expect(health.state).toBe("probing");
    health.answered(first!.nonce, first!.bytes, 20);
    expect(health.state).toBe("up");
    const large = health.tick(20).find(({ bytes }) => bytes === LIMITS.datagramCeilingBytes)!;
    health.answered(large.nonce, 1300, 40);
    expect(health.bytes).toBe(LIMITS.datagramFloorBytes);
    expect(health.rttMs).toBe(20);
  });
});
