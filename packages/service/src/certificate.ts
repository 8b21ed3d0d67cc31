import { createHash, X509Certificate } from "node:crypto";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { writeFileAtomic } from "./atomic-file.ts";

export interface Certificate {
  /** PEM */
  cert: string;
  /** PEM */
  key: string;
  /** SHA-256 of the DER certificate, lower-case hexadecimal: what invites pin. */
  fingerprint: string;
}

/** Long enough that nobody meets its end: invites and `told` pin the certificate itself, not its issuer. */
const SELF_SIGNED_YEARS = 20;

/** A certificate given by the operator. */
export function loadCertificate(certPath: string, keyPath: string): Certificate {
  const cert = readFileSync(certPath, "utf8");
  return { cert, key: readFileSync(keyPath, "utf8"), fingerprint: fingerprintOfPem(cert) };
}

/** The self-signed certificate of a data folder, made at the first start. */
export async function loadOrCreateCertificate(folder: string, commonName: string): Promise<Certificate> {
  const certPath = join(folder, "tls-cert.pem");
  const keyPath = join(folder, "tls-key.pem");
  try {
    return loadCertificate(certPath, keyPath);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const made = await makeSelfSigned(commonName);
  writeFileAtomic(keyPath, made.key, { mode: 0o600 });
  writeFileAtomic(certPath, made.cert, { mode: 0o644 });
  return made;
}

async function makeSelfSigned(commonName: string): Promise<Certificate> {
  // Loaded only when a certificate is made: it is needed once in the life of a data folder. The library's dependency
  // injection wants the metadata polyfill to be there first.
  await import("reflect-metadata");
  const { X509CertificateGenerator, PemConverter } = await import("@peculiar/x509");
  const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
  const keys = await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const notBefore = new Date(Date.now() - 24 * 3600 * 1000);
  const notAfter = new Date(notBefore);
  notAfter.setFullYear(notAfter.getFullYear() + SELF_SIGNED_YEARS);
  const certificate = await X509CertificateGenerator.createSelfSigned(
    { name: `CN=${commonName}`, notBefore, notAfter, signingAlgorithm: algorithm, keys },
    crypto,
  );
  const cert = certificate.toString("pem");
  const key = PemConverter.encode(await crypto.subtle.exportKey("pkcs8", keys.privateKey), "PRIVATE KEY");
  return { cert: `${cert}\n`, key: `${key}\n`, fingerprint: fingerprintOfPem(cert) };
}

function fingerprintOfPem(pem: string): string {
  return createHash("sha256").update(new X509Certificate(pem).raw).digest("hex");
}
