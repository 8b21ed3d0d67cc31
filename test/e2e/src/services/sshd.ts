import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type Node, ORDINARY_UID } from "@isthmus/lab";
import { awaitPort } from "./await-port.ts";
import { ownFile, ownFolder } from "./own-folder.ts";

/** Debian's sshd insists on it; its unit makes it. */
const SEPARATION_FOLDER = "/run/sshd";

/** OpenSSH's server for root of the node, by key only. */
export class Sshd {
  readonly port: number;
  readonly #hostKey: string;

  private constructor(port: number, hostKey: string) {
    this.port = port;
    this.#hostKey = hostKey;
  }

  /** @param authorizedKey public key that may log in */
  static async start(node: Node, port: number, authorizedKey: string): Promise<Sshd> {
    const folder = join(node.folder, "sshd");
    mkdirSync(folder, { recursive: true });
    mkdirSync(SEPARATION_FOLDER, { recursive: true, mode: 0o755 });
    const hostKey = join(folder, "host-key");
    const config = join(folder, "sshd_config");
    const authorized = join(folder, "authorized_keys");
    await node.read("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", hostKey]);
    ownFile(authorized, authorizedKey);
    ownFile(config, configText(port, hostKey, authorized));
    node.spawn("/usr/sbin/sshd", ["-D", "-e", "-f", config]);
    await awaitPort(node, port);
    return new Sshd(port, readFileSync(`${hostKey}.pub`, "utf8").trim());
  }

  /** A line for the client's file of known hosts, so that it insists on this very server. */
  knownHost(host: string, port: number): string {
    return `[${host}]:${port} ${this.#hostKey}\n`;
  }
}

function configText(port: number, hostKey: string, authorized: string): string {
  return [
    `ListenAddress 127.0.0.1:${port}`,
    `HostKey ${hostKey}`,
    `AuthorizedKeysFile ${authorized}`,
    "PidFile none",
    "PermitRootLogin prohibit-password",
    "PasswordAuthentication no",
    "UsePAM no",
    // The folders above the keys belong to the laboratory.
    "StrictModes no",
    "Subsystem sftp internal-sftp",
    "",
  ].join("\n");
}

/** The ordinary user's side of ssh on a node: a key of its own, and the flags that ssh and scp share. */
export class SshUser {
  readonly publicKey: string;
  readonly #folder: string;

  private constructor(folder: string, publicKey: string) {
    this.#folder = folder;
    this.publicKey = publicKey;
  }

  static async create(node: Node): Promise<SshUser> {
    const folder = ownFolder(node, "ssh");
    const key = join(folder, "key");
    await node.read("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", key], { uid: ORDINARY_UID });
    return new SshUser(folder, readFileSync(`${key}.pub`, "utf8"));
  }

  /** Flags of ssh and scp to reach this server, and no other that answers at its address. */
  flags(server: Sshd, host: string, port: number): string[] {
    const known = join(this.#folder, `known-${port}`);
    ownFile(known, server.knownHost(host, port));
    const settings = [
      "StrictHostKeyChecking=yes",
      `UserKnownHostsFile=${known}`,
      "IdentitiesOnly=yes",
      "BatchMode=yes",
    ];
    return ["-F", "none", "-i", join(this.#folder, "key"), ...settings.flatMap((setting) => ["-o", setting])];
  }
}
