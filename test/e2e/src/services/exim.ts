import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Node, ORDINARY_UID } from "@isthmus/lab";
import { awaitPort } from "./await-port.ts";
import { ownFolder } from "./own-folder.ts";

/** A mail server of one domain, which delivers everything to one mailbox file. */
export class Exim {
  readonly port: number;
  readonly domain: string;
  readonly #mailbox: string;

  private constructor(port: number, domain: string, mailbox: string) {
    this.port = port;
    this.domain = domain;
    this.#mailbox = mailbox;
  }

  static async start(node: Node, port: number, domain: string): Promise<Exim> {
    const folder = ownFolder(node, "exim");
    for (const part of ["spool", "log", "mail"]) ownFolder(node, "exim", part);
    const mailbox = join(folder, "mail", "box");
    const config = join(folder, "exim.conf");
    writeFileSync(config, configText({ folder, port, domain, mailbox }));
    node.spawn("exim4", ["-C", config, "-bdf"]);
    await awaitPort(node, port);
    return new Exim(port, domain, mailbox);
  }

  /** All that was delivered. @throws when there is nothing yet */
  mails(): string {
    return readFileSync(this.#mailbox, "utf8");
  }
}

function configText(at: { folder: string; port: number; domain: string; mailbox: string }): string {
  return `
primary_hostname = ${at.domain}
spool_directory = ${at.folder}/spool
log_file_path = ${at.folder}/log/%s
pid_file_path = ${at.folder}/exim.pid
exim_user = ${ORDINARY_UID}
exim_group = ${ORDINARY_UID}
local_interfaces = 127.0.0.1
daemon_smtp_ports = ${at.port}
tls_advertise_hosts =
host_lookup =
keep_environment =
message_size_limit = 50M
acl_smtp_rcpt = rcpt

begin acl
rcpt:
  accept domains = ${at.domain}
  deny

begin routers
box:
  driver = accept
  transport = box

begin transports
box:
  driver = appendfile
  file = ${at.mailbox}
  user = ${ORDINARY_UID}
  group = ${ORDINARY_UID}
`;
}
