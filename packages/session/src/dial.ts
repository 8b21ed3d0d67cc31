import { createSecureContext, getCACertificates, type SecureContext, type TLSSocket } from "node:tls";
import { formatHostPort, IsthmusError, isLoopback, parseOrigin } from "@isthmus/protocol";
import { WebSocket } from "ws";

/** The one path at which ISB and IST take sessions. */
export const SESSION_PATH = "/v1/session";

export interface DialOptions {
  /** SHA-256 of the certificate; trusted instead of the system's CAs when given. */
  certificate?: string;
  /** Allows `ws://` to other hosts than this one. */
  allowInsecure: boolean;
  maxPayload: number;
  timeoutMs: number;
  /** Gives the attempt up. */
  signal: AbortSignal;
}

/** A WebSocket that is open, and paused until the caller has put its listeners on it and resumes it. */
export interface Dialled {
  socket: WebSocket;
  /** Of this end, before any NAT. */
  localPort: number | undefined;
}

/** How long a TCP connect, a TLS handshake and the upgrade may take together. */
export const DIAL_TIMEOUT_MS = 5000;

/**
 * Opens a WebSocket to an origin.
 * @throws IsthmusError `wrong-certificate`, `rate-limited`, `bad-request` (an insecure origin), `disconnected`,
 *   `cancelled`
 */
export function dial(origin: string, options: DialOptions): Promise<Dialled> {
  const parsed = parseOrigin(origin);
  if (!parsed) return Promise.reject(new IsthmusError("bad-request", `'${origin}' is no origin`));
  if (!parsed.secure && !isLoopback(parsed.host) && !options.allowInsecure) {
    return Promise.reject(
      new IsthmusError("bad-request", `${origin} is not encrypted; 'insecure = true' in the configuration allows it`),
    );
  }
  const socket = new WebSocket(`${parsed.secure ? "wss" : "ws"}://${formatHostPort(parsed)}${SESSION_PATH}`, {
    perMessageDeflate: false,
    maxPayload: options.maxPayload,
    // A pinned certificate is checked below, on the connection itself: it has no name and no issuer to check.
    rejectUnauthorized: options.certificate === undefined,
    ...(options.certificate === undefined
      ? { secureContext: trustingSystem() }
      : { checkServerIdentity: () => undefined as never }),
  });
  return new Promise((resolve, reject) => {
    let refusal: IsthmusError | undefined;
    let localPort: number | undefined;
    const giveUp = (reason: IsthmusError): void => {
      refusal = reason;
      socket.terminate();
    };
    // The library's own time-out starts anew with each byte that arrives.
    const timer = setTimeout(
      () => giveUp(new IsthmusError("disconnected", `${origin}: no answer within ${options.timeoutMs} ms`)),
      options.timeoutMs,
    );
    const abort = (): void => giveUp(new IsthmusError("cancelled"));
    options.signal.addEventListener("abort", abort);
    const settled = (): void => {
      clearTimeout(timer);
      options.signal.removeEventListener("abort", abort);
    };
    socket.once("open", settled);
    socket.once("close", settled);
    if (options.signal.aborted) abort();
    socket.once("upgrade", (response) => {
      const tls = response.socket as Partial<TLSSocket>;
      localPort = response.socket.localPort;
      if (options.certificate === undefined) return;
      const actual = tls.getPeerX509Certificate?.()?.fingerprint256.replaceAll(":", "").toLowerCase();
      if (actual === options.certificate) return;
      giveUp(new IsthmusError("wrong-certificate", `${origin}: the server's certificate is not the pinned one`));
    });
    socket.once("unexpected-response", (request, response) => {
      refusal =
        response.statusCode === 429
          ? new IsthmusError("rate-limited")
          : new IsthmusError("disconnected", `the server answered HTTP ${response.statusCode}`);
      request.destroy();
      reject(refusal);
    });
    socket.once("open", () => {
      socket.pause();
      resolve({ socket, localPort });
    });
    socket.on("error", (error: NodeJS.ErrnoException) => reject(refusal ?? connectError(origin, error)));
    socket.once("close", () => reject(refusal ?? new IsthmusError("disconnected")));
  });
}

let context: SecureContext | undefined;

/** Node trusts its own list of CAs alone, and what `NODE_EXTRA_CA_CERTS` adds; operators add theirs to the system's. */
function trustingSystem(): SecureContext {
  context ??= createSecureContext({ ca: [...getCACertificates("default"), ...getCACertificates("system")] });
  return context;
}

const CERTIFICATE_ERRORS = /CERT|SELF_SIGNED|UNABLE_TO_VERIFY|ALTNAME/;

function connectError(origin: string, error: NodeJS.ErrnoException): IsthmusError {
  if (CERTIFICATE_ERRORS.test(error.code ?? "")) {
    return new IsthmusError("wrong-certificate", `${origin}: ${error.message}`, { cause: error });
  }
  // Where a name has several addresses, the error of all attempts together has a code and no text.
  return new IsthmusError("disconnected", `${origin}: ${error.message || error.code}`, { cause: error });
}
