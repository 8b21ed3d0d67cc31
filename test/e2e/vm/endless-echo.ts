import { createHash, randomBytes } from "node:crypto";
import { statSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { ownFolder, until } from "@isthmus/e2e";
import { type Node, ORDINARY_UID, type Program } from "@isthmus/lab";

/** Small enough that what was said is back soon, large enough to be many segments. */
const PART_BYTES = 512 * 1024;
const PARTS = 4;

let count = 0;

/** A connection to an echo service that is kept for as long as wanted; all that comes back is compared in the end. */
export class EndlessEcho {
  readonly #program: Program;
  readonly #copy: string;
  readonly #said = createHash("sha256");
  #bytes = 0;

  private constructor(program: Program, copy: string) {
    this.#program = program;
    this.#copy = copy;
  }

  static async start(node: Node, port: number): Promise<EndlessEcho> {
    const copy = join(ownFolder(node, "echoes"), String(++count));
    // Written by the shell as it comes; the connection is its descriptor 3.
    const script = `exec 3<>/dev/tcp/127.0.0.1/${port}; cat <&3 >${copy} & cat >&3; wait`;
    const program = node.spawn("bash", ["-c", script], { uid: ORDINARY_UID, stdin: "pipe", ends: true });
    // An end of the connection is seen by what does not come back.
    program.stdin.on("error", () => undefined);
    return new EndlessEcho(program, copy);
  }

  /** Uses a connection for a moment. @returns whether it was made, and brought back what was said */
  static async works(node: Node, port: number): Promise<boolean> {
    const echo = await EndlessEcho.start(node, port);
    try {
      await echo.moves();
    } catch {
      await echo.#program.destroy();
      return false;
    }
    return (await echo.end()) === "whole";
  }

  /** Says more, part by part, and resolves when all of it is back. @throws Error when it does not come */
  async moves(): Promise<void> {
    for (let part = 0; part < PARTS; part++) {
      const bytes = randomBytes(PART_BYTES);
      this.#said.update(bytes);
      this.#bytes += bytes.length;
      this.#program.stdin.write(bytes);
      await until("the echo is back", () => {
        if (!this.#program.running) throw new Error(`the connection ended: ${this.#program.output.text}`);
        const { size } = statSync(this.#copy, { throwIfNoEntry: false }) ?? { size: 0 };
        if (size !== this.#bytes) throw new Error(`${size} of ${this.#bytes} bytes`);
        return true;
      });
    }
  }

  /** Ends it. @returns whether what came back is what was said */
  async end(): Promise<"whole" | "another"> {
    await this.#program.destroy();
    const heard = createHash("sha256").update(await readFile(this.#copy));
    return heard.digest("hex") === this.#said.digest("hex") ? "whole" : "another";
  }
}
