import { readAdminToken } from "@isthmus/broker";
import type { Config } from "./config.ts";
import { adminOrigin } from "./serve.ts";

/** How long a running ISB may take to answer. */
const TIMEOUT_MS = 10_000;

/** One request to the admin API of the ISB that runs with this configuration. @throws Error with words for the user */
export async function callAdmin(config: Config, method: "GET" | "POST", path: string, body?: object): Promise<unknown> {
  const origin = adminOrigin(config);
  const token = tokenOf(config);
  let response: Response;
  try {
    response = await fetch(origin + path, {
      method,
      signal: AbortSignal.timeout(TIMEOUT_MS),
      headers: {
        authorization: `Bearer ${token}`,
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  } catch (cause) {
    throw new Error(`no ISB answers at ${origin}: is it running?`, { cause });
  }
  const reply: unknown = await response.json();
  if (response.ok) return reply;
  const { code, message } = reply as { code: string; message: string };
  throw new Error(`${code}: ${message}`);
}

function tokenOf({ admin, data }: Config): string {
  if (admin.token !== undefined) return admin.token;
  try {
    return readAdminToken(data);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const why = code === "ENOENT" ? "there is none: has an ISB run with this data folder?" : (cause as Error).message;
    throw new Error(`the admin token in ${data} cannot be read: ${why}`, { cause });
  }
}
