import { createHash, createPrivateKey, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { rmSync, statSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { connect, createServer, type TLSSocket } from "node:tls";
import { loadCertificate, loadOrCreateCertificate } from "@isthmus/service";
import { expect, it, onTestFinished } from "vitest";
import { emptyFolder } from "./folder.ts";

it("is made at first use, for its owner alone where it is secret, and found at the next", async () => {
  const folder = join(emptyFolder(), "data");
  const made = await loadOrCreateCertificate(folder, "isb.example");
  expect(statSync(join(folder, "tls-key.pem")).mode & 0o777).toBe(0o600);
  expect(statSync(folder).mode & 0o777).toBe(0o700);
  expect(await loadOrCreateCertificate(folder, "another.name")).toEqual(made);
  expect(loadCertificate(join(folder, "tls-cert.pem"), join(folder, "tls-key.pem"))).toEqual(made);
});

it("is self-signed, of the name, valid from yesterday for twenty years, and its fingerprint is of its DER", async () => {
  const { cert, key, fingerprint } = await loadOrCreateCertificate(emptyFolder(), "isb.example");
  const parsed = new X509Certificate(cert);
  expect(parsed.subject).toBe("CN=isb.example");
  expect(parsed.verify(parsed.publicKey)).toBe(true);
  expect(parsed.checkPrivateKey(createPrivateKey(key))).toBe(true);
  expect(parsed.validFromDate.getTime()).toBeLessThan(Date.now() - 23 * 3_600_000);
  expect(parsed.validToDate.getFullYear()).toBeGreaterThanOrEqual(new Date().getFullYear() + 19);
  expect(fingerprint).toBe(createHash("sha256").update(parsed.raw).digest("hex"));
});

it("serves TLS, and the peer sees the fingerprint", async () => {
  const { cert, key, fingerprint } = await loadOrCreateCertificate(emptyFolder(), "isb.example");
  const server = createServer({ cert, key }, (socket) => socket.end("hello"));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  const socket: TLSSocket = connect({
    port: (server.address() as AddressInfo).port,
    host: "127.0.0.1",
    rejectUnauthorized: false,
  });
  onTestFinished(() => void socket.destroy());
  await once(socket, "secureConnect");
  expect(socket.getPeerX509Certificate()?.fingerprint256.replaceAll(":", "").toLowerCase()).toBe(fingerprint);
  expect(socket.getProtocol()).toBe("TLSv1.3");
});

it("is made anew where only half of it is there, and is an error where it is damaged", async () => {
  const folder = emptyFolder();
  const made = await loadOrCreateCertificate(folder, "isb.example");
  rmSync(join(folder, "tls-cert.pem"));
  const again = await loadOrCreateCertificate(folder, "isb.example");
  expect(again.fingerprint).not.toBe(made.fingerprint);
  expect(new X509Certificate(again.cert).checkPrivateKey(createPrivateKey(again.key))).toBe(true);
  writeFileSync(join(folder, "tls-cert.pem"), "damaged");
  await expect(loadOrCreateCertificate(folder, "isb.example")).rejects.toThrow();
});
