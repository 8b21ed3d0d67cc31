import { join } from "node:path";
import { type Node, ORDINARY_UID } from "@isthmus/lab";
import { awaitPort } from "./await-port.ts";
import { ownFile, ownFolder } from "./own-folder.ts";

/** A web server that knows nothing of Isthmus: a folder to download from, and to upload to by PUT. */
export class Nginx {
  readonly port: number;
  /** What it serves. */
  readonly site: string;

  private constructor(port: number, site: string) {
    this.port = port;
    this.site = site;
  }

  static async start(node: Node, port: number): Promise<Nginx> {
    const folder = ownFolder(node, `nginx-${port}`);
    const site = ownFolder(node, `nginx-${port}`, "site");
    const config = join(folder, "nginx.conf");
    ownFile(config, configText(folder, site, port));
    node.spawn("nginx", ["-p", folder, "-c", config], { uid: ORDINARY_UID });
    await awaitPort(node, port);
    return new Nginx(port, site);
  }
}

function configText(folder: string, site: string, port: number): string {
  return [
    "worker_processes 1;",
    "daemon off;",
    `pid ${folder}/nginx.pid;`,
    `error_log ${folder}/error.log warn;`,
    "events { worker_connections 1024; }",
    "http {",
    "  access_log off;",
    "  types { text/html html; text/javascript js; }",
    ...["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((kind) => `  ${kind}_temp_path ${folder}/${kind};`),
    "  client_max_body_size 2g;",
    "  sendfile on;",
    `  server { listen 127.0.0.1:${port}; root ${site}; dav_methods PUT; }`,
    "}",
  ].join("\n");
}
