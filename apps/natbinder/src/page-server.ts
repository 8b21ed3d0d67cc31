import { randomBytes, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import type { ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Logger } from "@isthmus/service";
import { type FastifyInstance, type FastifyReply, type FastifyRequest, fastify } from "fastify";
import type { StatusReport } from "./status.ts";

const TOKEN_BYTES = 24;
const LOOK_MS = 500;
/** Each is somebody who looks at the page. */
const MOST_VIEWERS = 32;
/** What waits for one who does not read. */
const MOST_UNREAD_BYTES = 1024 * 1024;
/** Nothing but what comes from here, and no way out. */
const HEADERS = {
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "cache-control": "no-store",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
};
const FILES = {
  "": ["index.html", "text/html; charset=utf-8"],
  "page.css": ["page.css", "text/css; charset=utf-8"],
  "page.js": ["page.js", "text/javascript; charset=utf-8"],
} as const;

/**
 * A page with what `isthmus natbinder status` says, updated as it changes. On loopback every user of the host could look,
 * so its address holds a secret, which is told at the admin socket; there is no page before somebody has asked for it there.
 */
export class PageServer {
  readonly #status: StatusReport;
  readonly #logger: Logger;
  readonly #token = randomBytes(TOKEN_BYTES).toString("base64url");
  readonly #viewers = new Set<ServerResponse>();
  #opening: Promise<string> | undefined;
  #app: FastifyInstance | undefined;
  #timer: NodeJS.Timeout | undefined;
  #last = "";

  constructor(status: StatusReport, logger: Logger) {
    this.#status = status;
    this.#logger = logger;
  }

  /** Opens the page, if it is not open. @returns its address */
  open(): Promise<string> {
    this.#opening ??= this.#open();
    return this.#opening;
  }

  async stop(): Promise<void> {
    clearTimeout(this.#timer);
    for (const viewer of this.#viewers) viewer.end();
    await this.#app?.close();
  }

  async #open(): Promise<string> {
    const app = fastify({ forceCloseConnections: true });
    this.#app = app;
    app.addHook("onRequest", async (request, reply) => {
      reply.headers(HEADERS);
      if (!this.#isAllowed(request)) await reply.code(404).type("text/plain").send("not found");
    });
    for (const [path, [file, type]] of Object.entries(FILES)) {
      const text = readFileSync(new URL(`../page/${file}`, import.meta.url), "utf8");
      app.get(`/:token/${path}`, (_request, reply) => reply.type(type).send(text));
    }
    app.get("/:token/events", (request, reply) => this.#view(request, reply));
    await app.listen({ host: "127.0.0.1", port: 0 });
    const { port } = app.server.address() as AddressInfo;
    this.#logger.info({ port }, "the page is open");
    return `http://127.0.0.1:${port}/${this.#token}/`;
  }

  #isAllowed({ params }: FastifyRequest): boolean {
    const given = Buffer.from((params as { token?: string }).token ?? "");
    const wanted = Buffer.from(this.#token);
    return given.length === wanted.length && timingSafeEqual(given, wanted);
  }

  async #view(_request: FastifyRequest, reply: FastifyReply): Promise<void> {
    if (this.#viewers.size >= MOST_VIEWERS) return reply.code(503).send();
    reply.hijack();
    const { raw } = reply;
    raw.writeHead(200, { ...HEADERS, "content-type": "text/event-stream" });
    this.#viewers.add(raw);
    raw.on("close", () => this.#viewers.delete(raw));
    if (this.#viewers.size === 1) {
      this.#last = "";
      await this.#tell();
    } else raw.write(eventOf(this.#last));
  }

  /** Goes on as long as somebody looks. */
  async #tell(): Promise<void> {
    clearTimeout(this.#timer);
    const text = JSON.stringify(await this.#status.read());
    for (const viewer of text === this.#last ? [] : this.#viewers) {
      if (viewer.writableLength > MOST_UNREAD_BYTES) viewer.destroy();
      else viewer.write(eventOf(text));
    }
    this.#last = text;
    if (this.#viewers.size > 0) this.#timer = setTimeout(() => void this.#tell(), LOOK_MS).unref();
  }
}

function eventOf(json: string): string {
  return `data: ${json}\n\n`;
}
