import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { child, parseXml } from "../upnp/xml.ts";
import { FakeFault, type FakeIgd, fakeDescription, soapAnswer, soapFault } from "./fake-igd.ts";
import type { FakeSettings } from "./fake-settings.ts";

const DRIP_MS = 20;
const DEEP = 5000;
const LAUGHS =
  '<?xml version="1.0"?><!DOCTYPE r [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]><r>&c;</r>';

/** The fake's web server: description and control. */
export class FakeWeb {
  /** How often each action was asked for; `description` among them. */
  readonly asked = new Map<string, number>();
  readonly #settings: FakeSettings;
  readonly #igd: FakeIgd;
  readonly #device: string;
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;

  constructor(settings: FakeSettings, igd: FakeIgd, device: string) {
    this.#settings = settings;
    this.#igd = igd;
    this.#device = device;
  }

  /** @param port 0 for any; the same again after a restart */
  async start(port: number): Promise<void> {
    const server = createServer((request, response) => void this.#serve(request, response));
    server.on("connection", (socket) => {
      this.#sockets.add(socket);
      socket.on("error", () => undefined);
      socket.once("close", () => this.#sockets.delete(socket));
    });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once("error", reject);
    server.listen(port, this.#settings.address, resolve);
    await promise;
    this.#server = server;
  }

  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (!server) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    server.close(() => resolve());
    for (const socket of this.#sockets) socket.destroy();
    await promise;
  }

  /** Also after a stop. */
  get port(): number {
    return (this.#server?.address() as AddressInfo | null)?.port ?? 0;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await text(request).catch(() => "");
    const client = request.socket.remoteAddress ?? "";
    const action = /#(\w+)"?$/.exec(String(request.headers.soapaction ?? ""))?.[1] ?? "description";
    this.asked.set(action, (this.asked.get(action) ?? 0) + 1);
    const { status, answer } = this.#answer(request, body, action, client);
    if (this.#settings.delayMs > 0) await sleep(this.#settings.delayMs);
    response.on("error", () => undefined);
    await this.#write(request, response, status, answer);
  }

  #answer(request: IncomingMessage, body: string, action: string, client: string): { status: number; answer: string } {
    if (request.method === "GET") return { status: 200, answer: fakeDescription(this.#settings, this.#device) };
    if (request.url === "/disconnected") {
      return action === "GetStatusInfo"
        ? { status: 200, answer: soapAnswer(action, { NewConnectionStatus: "Disconnected" }) }
        : { status: 500, answer: soapFault(501) };
    }
    try {
      const args = child(child(child(parseXml(body), "Envelope"), "Body"), action);
      if (!args) throw new FakeFault(401);
      return { status: 200, answer: soapAnswer(action, this.#igd.answer(action, args, client)) };
    } catch (error) {
      return { status: 500, answer: soapFault(error instanceof FakeFault ? error.number : 402) };
    }
  }

  async #write(request: IncomingMessage, response: ServerResponse, status: number, answer: string): Promise<void> {
    const { socket } = request;
    switch (this.#settings.web) {
      case "sound":
        response.writeHead(status, { "Content-Type": "text/xml" }).end(answer);
        break;
      case "hang":
        break;
      case "noise":
        socket.end("\0\x01\x02 this is not HTTP\r\n\r\n");
        break;
      case "garbage":
        response.end("<s:Envelope><s:Body></Envelope> <<<");
        break;
      case "drip":
        for (let at = 0; at < answer.length && socket.writable; at++) {
          response.write(answer[at]!);
          await sleep(DRIP_MS);
        }
        response.end();
        break;
      case "flood":
        while (socket.writable) {
          if (!response.write("<a/>".repeat(4096))) await sleep(1);
        }
        break;
      case "deep":
        response.end("<a>".repeat(DEEP) + "</a>".repeat(DEEP));
        break;
      case "entities":
        response.end(LAUGHS);
        break;
      case "cut":
        response.writeHead(status, { "Content-Length": answer.length });
        response.write(answer.slice(0, answer.length / 2), () => socket.destroy());
        break;
      case "redirect":
        response.writeHead(302, { Location: "http://127.0.0.1:1/" }).end();
        break;
      case "unnumbered":
        response.writeHead(500).end(soapFault(undefined));
        break;
    }
  }
}
