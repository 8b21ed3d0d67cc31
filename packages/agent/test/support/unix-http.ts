import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";

export interface Answer {
  status: number | undefined;
  text: string;
}

/** One call over a Unix socket; its answer may be left unread. */
export async function call(
  socketPath: string,
  method: string,
  path: string,
  body?: string,
  headers: Record<string, string> = body === undefined ? {} : { "content-type": "application/json" },
): Promise<IncomingMessage> {
  const sent = request({ socketPath, method, path, headers });
  sent.end(body);
  const [response] = (await once(sent, "response")) as [IncomingMessage];
  response.on("error", () => undefined);
  return response;
}

export async function read(response: IncomingMessage): Promise<Answer> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return { status: response.statusCode, text: Buffer.concat(chunks).toString() };
}
