import { createStaticKey, Initiator, OPEN_DEADLINE_MS, respond, type StreamMessage } from "@isthmus/link";
import { createIdentity } from "@isthmus/service";
import { Clock, Random } from "./clock.ts";
import { type App, Daemon } from "./daemon.ts";
import { Ist, type NetworkKnobs } from "./ist.ts";

export interface Scenario {
  seed: number;
  opens: number;
  overMs: number;
  controlLoss: number;
  controlDelayMs: number;
  serviceDown: number;
  /** SYNs of hostile or confused neighbours at cells, from the expected address. */
  strangers: number;
  daemonRestarts: number;
  istRestarts: number;
  network: NetworkKnobs;
}

const CELLS = { passive: 6, pure: 4 };
/** When everything must be over: the last open, its deadline, and every leg's waiting time. */
const SETTLED_MS = 40_000;

const subscriber = { identity: createIdentity(), staticKey: createStaticKey() };
const provider = { identity: createIdentity(), staticKey: createStaticKey() };

interface Opened {
  key: string;
  app: App;
  at: number;
}

/** Two daemons, one IST and the bad world between them, run to the end. */
function play(scenario: Scenario) {
  const clock = new Clock();
  const random = new Random(scenario.seed);
  const ist = new Ist(clock, random, scenario.network, CELLS);
  const opened: Opened[] = [];

  const control = (receiver: () => Daemon) => (message: StreamMessage, generation: string) => {
    const copies = random.chance(scenario.controlLoss) ? 0 : random.chance(0.1) ? 2 : 1;
    for (let copy = 0; copy < copies; copy++) {
      clock.after(random.between(1, scenario.controlDelayMs), () =>
        receiver().receive(structuredClone(message), generation),
      );
    }
  };
  const common = { clock, random, ist, halfMs: scenario.network.halfMs };
  const a: Daemon = new Daemon({ ...common, side: 0, send: control(() => b) });
  const b: Daemon = new Daemon({ ...common, side: 1, send: control(() => a) });
  ist.onHalf = (side, cell, port) => {
    if (random.chance(scenario.controlLoss)) return;
    clock.after(random.between(1, scenario.controlDelayMs), () => (side === 0 ? a : b).half(cell, port));
  };
  b.serviceDown = scenario.serviceDown;
  a.serviceDown = scenario.serviceDown;

  let handshakes = 0;
  const agree = (): void => {
    const shared = { requestId: `request-${handshakes++}`, subject: "web@bob" };
    const initiator = new Initiator({ ...subscriber, ...shared });
    const answer = respond({ ...provider, ...shared }, initiator.message, clock.now);
    a.useGeneration(initiator.finish(answer.message, clock.now).generation);
    b.useGeneration(answer.generation);
  };
  agree();

  for (let n = 0; n < scenario.opens; n++) {
    clock.at(random.between(0, scenario.overMs), () => {
      const daemon = random.chance(0.8) ? a : b;
      const app = daemon.open(Buffer.from(`client ${n} says `.repeat(random.between(0, 60))));
      const key = [...daemon.history].find(([, candidate]) => candidate === app)![0];
      opened.push({ key, app, at: clock.now });
      const watch = (): void => {
        // The gate of it all: joined once or failed, in time.
        if (
          clock.now - opened.find((entry) => entry.key === key)!.at > OPEN_DEADLINE_MS &&
          app.joined === 0 &&
          !app.reset
        ) {
          throw new Error(`open ${key} is neither joined nor failed after ${OPEN_DEADLINE_MS} ms`);
        }
      };
      clock.after(OPEN_DEADLINE_MS + 1, watch);
    });
  }
  for (let n = 0; n < scenario.strangers; n++) {
    clock.at(random.between(0, scenario.overMs + 2000), () => {
      const side = random.between(0, 1) as 0 | 1;
      const stranger = ist.connect(
        { cell: random.between(0, ist.cells.length - 1), side },
        {
          up: () => {
            if (random.chance(0.5))
              stranger.send(Buffer.from("GET / HTTP/1.1\r\nHost: not for you, but long enough\r\n\r\n"));
            if (random.chance(0.5)) clock.after(random.between(0, 5000), () => stranger.reset());
          },
          data: (chunk) => {
            strangerHeard.push(chunk);
            // Hands back what it got: a reflected preface must not pass.
            stranger.send(chunk);
          },
          end: () => undefined,
          lost: () => undefined,
        },
      );
    });
  }
  const strangerHeard: Buffer[] = [];
  for (let n = 0; n < scenario.daemonRestarts; n++) {
    clock.at(random.between(0, scenario.overMs), () => {
      (random.chance(0.5) ? a : b).restart();
      agree();
    });
  }
  for (let n = 0; n < scenario.istRestarts; n++) clock.at(random.between(0, scenario.overMs), () => ist.restart());

  clock.run(scenario.overMs + SETTLED_MS);
  return { opened, a, b, ist, strangerHeard };
}

function hold(condition: boolean, promise: string): void {
  if (!condition) throw new Error(`broken: ${promise}`);
}

/**
 * Plays a scenario and holds it to what is promised of every open: it is joined once or fails in time, no byte goes astray.
 * @returns how many opens were joined, how many of them where ports pass unchanged, and how many brought everything both ways
 * @throws Error that names the broken promise
 */
export function judge(scenario: Scenario): { joined: number; pure: number; whole: number } {
  const { opened, a, b, ist, strangerHeard } = play(scenario);
  let joined = 0;
  let pure = 0;
  let whole = 0;
  for (const { key, app } of opened) {
    const other = (a.history.get(key) === app ? b : a).history.get(key);
    judgeOne(key, app, other);
    if (other) judgeOne(key, other, app);
    hold(app.joined === 1 || app.reset, `${key} is joined or failed`);
    if (app.joined === 1) joined++;
    if (app.isPure) pure++;
    if (app.heardEnd && other?.heardEnd) whole++;
    const secret = app.says.subarray(0, 16);
    if (secret.length === 16) {
      hold(!strangerHeard.some((chunk) => chunk.includes(secret)), "a stranger hears no clear byte");
    }
  }
  for (const daemon of [a, b]) {
    for (const [key, app] of daemon.history) hold(app.reset || app.endedWith !== undefined, `${key} is over`);
  }
  hold(ist.unpaired === 0, "no cell is stuck");
  return { joined, pure, whole };
}

function judgeOne(key: string, mine: App, theirs: App | undefined): void {
  const heard = Buffer.concat(mine.hears);
  const said = theirs?.says ?? Buffer.alloc(0);
  hold(mine.joined <= 1, `${key} is joined once at most`);
  hold(mine.joined === 1 || (heard.length === 0 && !mine.heardEnd), `${key} hears only when joined`);
  hold(said.subarray(0, heard.length).equals(heard), `${key} hears what its peer said, in order, none twice`);
  hold(!mine.heardEnd || heard.length === said.length, `${key} sees a clean end only behind all of it`);
}
