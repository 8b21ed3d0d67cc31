/**
 * `call PROTOCOL CONTROL_PORT A A_PORT B B_PORT RELAY_PORT`: has the rtpengine of this namespace make a call between two
 * ends whose addresses it sees so, `rtp` or `udptl`. It has an interface `near` towards a and one `far` towards b, on both
 * of which it is to take that port. Ends when datagrams may pass.
 */
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { type Bencoded, bencode, decodeTexts } from "./bencode.ts";

/** The program may not listen yet: whatever has no answer is said again. */
const AGAIN_MS = 1000;
const PATIENCE_MS = 120_000;
/** For three seconds after it was told something, rtpengine takes no sender for the one that it waits for. */
const SETTLED_MS = 5000;
const MEDIA: Readonly<Record<string, string>> = { rtp: "audio PORT RTP/AVP 0", udptl: "image PORT udptl t38" };
const NO_ICE = { ICE: "remove", replace: ["origin", "session-connection"] };

const [protocol = "", controlPort, a = "", aPort, b = "", bPort, relayPort] = process.argv.slice(2);

function describe(address: string, port: string | undefined): string {
  const origin = `IN IP4 ${address}`;
  const media = MEDIA[protocol]?.replace("PORT", String(port));
  return [`v=0`, `o=- 1 1 ${origin}`, `s=-`, `c=${origin}`, `t=0 0`, `m=${media}`, ""].join("\r\n");
}

async function ask(socket: Socket, request: Readonly<Record<string, Bencoded>>): Promise<Map<string, string>> {
  const cookie = `${request.command}-${process.pid}`;
  const ended = AbortSignal.timeout(PATIENCE_MS);
  const timer = setInterval(send, AGAIN_MS);
  function send(): void {
    socket.send(`${cookie} ${bencode(request)}`, Number(controlPort), "127.0.0.1");
  }
  send();
  try {
    for (;;) {
      const [message] = (await once(socket, "message", { signal: ended })) as [Buffer];
      const prefix = `${cookie} `;
      if (message.toString("latin1", 0, prefix.length) === prefix) return decodeTexts(message.subarray(prefix.length));
    }
  } finally {
    clearInterval(timer);
  }
}

/** Has one end's words passed on to the other. @throws Error when what the other end reads has another port */
async function pass(socket: Socket, command: string, from: string, more: Readonly<Record<string, Bencoded>>) {
  const answer = await ask(socket, { command, "call-id": "load", sdp: from, ...NO_ICE, ...more });
  const port = /^m=\S+ (\d+) /m.exec(answer.get("sdp") ?? "")?.[1];
  if (answer.get("result") === "ok" && port === relayPort) return;
  throw new Error(`${command}: ${JSON.stringify(Object.fromEntries(answer))}`);
}

const socket = createSocket("udp4");
await pass(socket, "offer", describe(a, aPort), { "from-tag": "a", direction: ["near", "far"] });
await pass(socket, "answer", describe(b, bPort), { "from-tag": "a", "to-tag": "b" });
socket.close();
await sleep(SETTLED_MS);
