import { mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LIMITS } from "@isthmus/protocol";
import { loadOrCreateCertificate } from "@isthmus/service";
import { describe, expect, it, onTestFinished } from "vitest";
import { type DialOptions, dial } from "../src/dial.ts";
import { spawnScript } from "./child/spawn.ts";
import { connect, failure, startClient, startServer } from "./harness.ts";

const OPTIONS: DialOptions = {
  allowInsecure: false,
  maxPayload: LIMITS.sessionFrameBytes,
  timeoutMs: 5000,
  signal: new AbortController().signal,
};

function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "session-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  return folder;
}

function certificate(): ReturnType<typeof loadOrCreateCertificate> {
  return loadOrCreateCertificate(temporaryFolder(), "isb.example");
}

/** A TCP server that is no server of ours. */
async function strangeServer(onSocket: (socket: Socket) => void): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    onSocket(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return `ws://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

describe("over TLS with a certificate that nobody signed", () => {
  it("a session comes up where the certificate is the pinned one", async () => {
    const made = await certificate();
    const server = await startServer({ certificate: made });
    const { client } = await connect(server, {
      target: {
        origins: [server.origin],
        expect: { key: server.identity.publicKey },
        certificate: made.fingerprint,
      },
    });
    expect(client.origin).toMatch(/^wss:/);
    expect(await client.request("echo", { text: "x" })).toEqual({ text: "x" });
  });

  it("another certificate than the pinned one is refused before anything is said", async () => {
    const server = await startServer({ certificate: await certificate() });
    const { fingerprint } = await certificate();
    const client = startClient(server, {
      target: { origins: [server.origin], expect: { key: server.identity.publicKey }, certificate: fingerprint },
    });
    expect(await failure(client)).toMatchObject({ code: "wrong-certificate" });
    expect(server.attempts).toEqual([]);
  });

  it("no pin means the system's CAs, which do not know it", async () => {
    const server = await startServer({ certificate: await certificate() });
    expect(await failure(startClient(server))).toMatchObject({ code: "wrong-certificate" });
    expect(server.attempts).toEqual([]);
  });

  it("no pin means the system's CAs, and those that its operator added", async () => {
    const [folder, others] = [temporaryFolder(), temporaryFolder()];
    const made = await loadOrCreateCertificate(folder, "localhost");
    await loadOrCreateCertificate(others, "localhost");
    const { port } = await startServer({ certificate: made });
    const dialFrom = async (trusted: string) => {
      const env = { SSL_CERT_FILE: join(trusted, "tls-cert.pem"), SSL_CERT_DIR: "", NODE_EXTRA_CA_CERTS: "" };
      const { lines } = spawnScript("dial.ts", [`wss://localhost:${port}`], env);
      return (await lines.next()).value as string;
    };
    expect(await dialFrom(folder)).toBe("open");
    expect(await dialFrom(others)).toBe("wrong-certificate");
  });

  it("a pin is of no use without TLS", async () => {
    const server = await startServer();
    await expect(dial(server.origin, { ...OPTIONS, certificate: "00".repeat(32) })).rejects.toMatchObject({
      code: "wrong-certificate",
    });
  });
});

describe("without TLS", () => {
  it("another host than this one is not dialled unless that is allowed", async () => {
    // 0.0.0.0 leads to this host, but does not say so.
    const server = await startServer({ isOwnOrigin: () => true });
    const origin = `ws://0.0.0.0:${server.port}`;
    const refused = startClient({ origin, identity: server.identity });
    expect(await failure(refused)).toMatchObject({ code: "bad-request", message: expect.stringContaining("insecure") });
    expect(server.gate.size).toBe(0);
    const allowed = startClient({ origin, identity: server.identity }, { allowInsecure: true });
    await allowed.whenUp(AbortSignal.timeout(10_000));
  });

  it.each(["http://127.0.0.1:1", "ws://127.0.0.1", "127.0.0.1:1", ""])("'%s' is no origin", async (origin) => {
    await expect(dial(origin, OPTIONS)).rejects.toMatchObject({ code: "bad-request" });
  });
});

describe("an attempt to dial", () => {
  it("at a closed port says where and why it failed, by name or by address", async () => {
    for (const host of ["127.0.0.1", "localhost"]) {
      await expect(dial(`ws://${host}:1`, OPTIONS)).rejects.toMatchObject({
        code: "disconnected",
        message: expect.stringMatching(new RegExp(`^ws://${host}:1: .*ECONNREFUSED`)),
      });
    }
  });

  it.each([
    ["429 Too Many Requests", "rate-limited"],
    ["503 Service Unavailable", "disconnected"],
    ["200 OK", "disconnected"],
    ["302 Found\r\nLocation: ws://127.0.0.1:1/", "disconnected"],
  ])("that is answered %s ends with %s", async (status, code) => {
    const origin = await strangeServer((socket) => {
      socket.on("data", () => socket.end(`HTTP/1.1 ${status}\r\nContent-Length: 0\r\n\r\n`));
    });
    await expect(dial(origin, OPTIONS)).rejects.toMatchObject({ code });
  });

  it.each([
    ["that speaks another protocol", (socket: Socket) => socket.end("220 mail.example ESMTP\r\n")],
    ["that hangs up", (socket: Socket) => socket.destroy()],
  ])("at a server %s ends with disconnected", async (_, onSocket) => {
    await expect(dial(await strangeServer(onSocket), OPTIONS)).rejects.toMatchObject({ code: "disconnected" });
  });

  it("is given up in time, even where the answer trickles in for ever", async () => {
    const silent = await strangeServer(() => undefined);
    const trickling = await strangeServer((socket) => {
      socket.write("HTTP/1.1 101 Switching Protocols\r\nX-Pad: ");
      const drip = setInterval(() => socket.write("x"), 10);
      socket.on("close", () => clearInterval(drip));
    });
    for (const origin of [silent, trickling]) {
      await expect(dial(origin, { ...OPTIONS, timeoutMs: 100 })).rejects.toMatchObject({
        code: "disconnected",
        message: expect.stringContaining("no answer within 100 ms"),
      });
    }
  });

  it("is given up when its signal says so, or said so before", async () => {
    const origin = await strangeServer(() => undefined);
    const abort = new AbortController();
    const dialling = dial(origin, { ...OPTIONS, signal: abort.signal });
    abort.abort();
    await expect(dialling).rejects.toMatchObject({ code: "cancelled" });
    await expect(dial(origin, { ...OPTIONS, signal: abort.signal })).rejects.toMatchObject({ code: "cancelled" });
  });
});
