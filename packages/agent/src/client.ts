import { lstatSync } from "node:fs";
import { type IncomingMessage, request } from "node:http";
import { dirname } from "node:path";
import { createInterface } from "node:readline";
import {
  apiError,
  explain,
  IsthmusError,
  isCode,
  type LocalApiInput,
  type LocalApiName,
  type LocalApiReply,
  localApi,
} from "@isthmus/protocol";
import { isSharedFolder, requireOwnFolder } from "@isthmus/service";
import type { z } from "zod";

/** Beyond what the user asked to wait for. */
const ANSWER_TIMEOUT_MS = 60_000;

/** A call of an API over a Unix socket. */
export interface ApiCall<R extends z.ZodType> {
  method: string;
  path: string;
  reply: R;
}

export interface AskOptions {
  /** What the answer may take beyond what an answer takes. @default 0 */
  waitMs?: number;
  /** Gives up. */
  signal?: AbortSignal;
}

/** Who is talked to. */
export interface ApiServer {
  /** What it is called in errors. */
  name: string;
  /** What starts it. */
  program: string;
  /** The folder of its socket may be another's: the system's, or one that the host's owner has named. */
  isSystem: boolean;
}

/** An API over a Unix socket that is its owner's alone. */
export class ApiClient {
  readonly #socket: string;
  readonly #server: ApiServer;

  constructor(socket: string, server: ApiServer) {
    this.#socket = socket;
    this.#server = server;
  }

  /** @throws IsthmusError what was answered, or `disconnected` with how to start what should answer */
  async ask<R extends z.ZodType>(
    { method, path, reply }: ApiCall<R>,
    body: unknown,
    options: AskOptions = {},
  ): Promise<z.infer<R>> {
    const late = AbortSignal.timeout(ANSWER_TIMEOUT_MS + (options.waitMs ?? 0));
    const signal = options.signal ? AbortSignal.any([late, options.signal]) : late;
    const response = await this.#send(method, path, method === "GET" ? undefined : JSON.stringify(body), signal);
    const text = await readText(response).catch((error: Error) => {
      throw this.#connectError(error, signal);
    });
    if (response.statusCode !== 200) throw this.#errorOf(text, response.statusCode);
    const parsed = reply.safeParse(parseJson(text));
    if (!parsed.success) {
      throw new IsthmusError(
        "bad-message",
        `the answer of the ${this.#server.name} is not understood (another version?): ${explain(parsed.error)}`,
      );
    }
    return parsed.data;
  }

  /** Lines of a stream, until it or `signal` ends. @throws IsthmusError `disconnected` when the daemon has gone meanwhile */
  async *lines(path: string, signal: AbortSignal): AsyncGenerator<string> {
    const response = await this.#send("GET", path, undefined, signal);
    if (response.statusCode !== 200) throw this.#errorOf(await readText(response), response.statusCode);
    try {
      for await (const line of createInterface({ input: response, crlfDelay: Number.POSITIVE_INFINITY })) yield line;
    } catch {
      // Whether it ended well, the response itself says.
    }
    if (!response.complete && !signal.aborted) {
      throw new IsthmusError("disconnected", `the ${this.#server.name} at ${this.#socket} has gone`);
    }
  }

  #send(method: string, path: string, body: string | undefined, signal: AbortSignal) {
    this.#requireOwn();
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const headers =
      body === undefined ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(body) };
    const call = request({ socketPath: this.#socket, method, path, headers, signal }, resolve);
    call.on("error", (error: NodeJS.ErrnoException) => reject(this.#connectError(error, signal)));
    call.end(body);
    return promise;
  }

  /**
   * An invite is a secret, and whoever owns the folder of the socket decides who reads what is sent there: under /tmp
   * anybody could have made it first, and put another socket into the place of the one that was looked at.
   */
  #requireOwn(): void {
    if (this.#server.isSystem) return;
    const folder = dirname(this.#socket);
    try {
      if (!isSharedFolder(folder)) requireOwnFolder(folder);
    } catch (error) {
      // Without a folder there is no daemon either, which connecting will say.
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
      throw new IsthmusError("not-allowed", (error as Error).message);
    }
    const owner = lstatSync(this.#socket, { throwIfNoEntry: false })?.uid;
    if (owner === undefined || owner === 0 || owner === process.geteuid?.()) return;
    throw new IsthmusError("not-allowed", `${this.#socket} belongs to user ${owner}, not to this one`);
  }

  #connectError(error: NodeJS.ErrnoException, signal: AbortSignal): Error {
    if ((signal.reason as Error | undefined)?.name === "TimeoutError") {
      return new IsthmusError("timeout", `the ${this.#server.name} does not answer`);
    }
    if (signal.aborted) return error;
    if (error.code === "ENOENT" || error.code === "ECONNREFUSED") {
      return new IsthmusError(
        "disconnected",
        `no ${this.#server.name} answers at ${this.#socket}: start it with '${this.#server.program}'`,
      );
    }
    if (error.code === "EACCES") {
      return new IsthmusError("disconnected", `this user may not open ${this.#socket}`);
    }
    const what = error.syscall === "connect" ? "cannot be reached" : "has gone";
    return new IsthmusError("disconnected", `the ${this.#server.name} at ${this.#socket} ${what}: ${error.message}`, {
      cause: error,
    });
  }

  #errorOf(text: string, status: number | undefined): IsthmusError {
    try {
      const { code, message } = apiError.parse(parseJson(text));
      return isCode(code) ? new IsthmusError(code, message) : new IsthmusError("internal", `${code}: ${message}`);
    } catch {
      return new IsthmusError("bad-message", `the ${this.#server.name} answered HTTP ${status}`);
    }
  }
}

/** The daemon's local API. */
export class DaemonClient extends ApiClient {
  constructor(socket: string, { isSystem = false }: Partial<Pick<ApiServer, "isSystem">> = {}) {
    super(socket, { name: "daemon", program: "isthmus-daemon", isSystem });
  }

  /** @throws IsthmusError as of {@link ask} */
  async call<N extends Exclude<LocalApiName, "watch" | "logs">>(
    name: N,
    body: LocalApiInput<N>,
    options: AskOptions = {},
  ): Promise<LocalApiReply<N>> {
    return (await this.ask(localApi[name], body, options)) as LocalApiReply<N>;
  }
}

async function readText(response: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk);
  return Buffer.concat(chunks).toString("utf8");
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
