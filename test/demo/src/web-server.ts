import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** A page that says where it is from, and a file to measure with. */
export function makeSite(folder: string, greeting: string, downloadBytes: number): void {
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  writeFileSync(join(folder, "index.html"), `<!doctype html>\n<title>Isthmus</title>\n<h1>${greeting}</h1>\n`);
  const block = Buffer.alloc(1024 * 1024);
  for (let at = 0; at < block.length; at += 4) block.writeUInt32LE((at * 2654435761) >>> 0, at);
  const blocks = Math.ceil(downloadBytes / block.length);
  writeFileSync(join(folder, "download"), Buffer.concat(Array.from({ length: blocks }, () => block)));
}

/** An nginx that knows nothing of Isthmus: a plain site on a port of its own host. */
export function nginxConfig(folder: string, site: string, port: number): string {
  return [
    "worker_processes 1;",
    "daemon off;",
    `pid ${folder}/nginx.pid;`,
    `error_log ${folder}/error.log warn;`,
    "events { worker_connections 1024; }",
    "http {",
    "  access_log off;",
    ...["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((kind) => `  ${kind}_temp_path ${folder}/${kind};`),
    "  sendfile on;",
    `  server { listen 127.0.0.1:${port}; root ${site}; }`,
    "}",
  ].join("\n");
}
