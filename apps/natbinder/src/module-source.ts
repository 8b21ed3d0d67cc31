import { existsSync } from "node:fs";
import type { BindRequest, Policy } from "@isthmus/binding";
import {
  GenericFamily,
  NAT_PASS_FAMILY,
  NAT_PASS_MAX_EXCLUSIONS,
  NAT_PASS_MAX_WAIT_MS,
  type NatPassPort,
  NetlinkError,
  NLCTRL,
} from "@isthmus/native/netlink";
import type { Logger } from "@isthmus/service";
import type { BindListener, BindSource, BindSourceNews } from "./bind-source.ts";
import type { OpenSockets } from "./open-sockets.ts";
import { SocketsSource } from "./sockets-source.ts";

const LOADED = "/sys/module/nat_pass";
const [IPPROTO_TCP, IPPROTO_UDP] = [6, 17];
const AF_INET = 2;
/** Before the name of a port: owners that the module counts the sockets of. */
const OWNER = "module ";
/** What changes while it is listed is listed again, so often at most. */
const MOST_DUMPS = 5;

export interface ModuleSourceOptions {
  policy: Policy;
  open: OpenSockets;
  /** What a program may wait in bind(). */
  waitMs: number;
  logger: Logger;
}

/**
 * Sees bind() of all programs by the kernel module nat_pass, which has them wait for the answer. It is registered while a
 * gateway answers, and only then, so that a host without one binds as ever.
 */
export class ModuleSource implements BindSource {
  readonly name = "module";
  readonly #options: ModuleSourceOptions;
  #listener: BindListener | undefined;
  #family: GenericFamily<typeof NAT_PASS_FAMILY> | undefined;
  #families: GenericFamily<typeof NLCTRL> | undefined;
  #isWanted = false;
  #isRegistered = false;
  /** One change of the registration, or one comparison, at a time. */
  #turn = Promise.resolve();
  /** What was found open at the start, maybe of binds that a former process was told of. */
  #foundOpen = new Set<string>();
  /** The numbers of the binds that were reported, by owner. */
  readonly #reported = new Map<string, number>();
  /** Owners that events were about while the ports were listed. */
  #touched: Set<string> | undefined;

  constructor(options: ModuleSourceOptions) {
    this.#options = options;
  }

  /** Whether the running kernel has the module. */
  static get isLoaded(): boolean {
    return existsSync(LOADED);
  }

  async start(listener: BindListener): Promise<void> {
    this.#listener = listener;
    try {
      this.#families = await GenericFamily.open(NLCTRL);
      this.#families.subscribe(["notify"], {
        onEvent: ({ operation, attributes }) => {
          if (operation === "delfamily" && attributes.familyName === NAT_PASS_FAMILY.name) this.#end();
        },
        onResynchronise: () => undefined,
      });
      this.#family = await GenericFamily.open(NAT_PASS_FAMILY, {
        listener: {
          onEvent: ({ operation, attributes }) => {
            if (operation === "port-bind") void this.#bind(attributes);
            else if (operation === "port-close") this.#close(attributes);
          },
          onResynchronise: (reason) => {
            this.#options.logger.warn({ reason }, "words of the module were missed: looking at all ports");
            this.#inTurn(() => this.#compare());
          },
        },
      });
      this.#foundOpen = new Set((await this.#ports()).map(ownerOf));
    } catch (error) {
      this.#release();
      throw new Error(reasonOf(error), { cause: error });
    }
  }

  async stop(): Promise<void> {
    this.#isWanted = false;
    await this.#turn;
    this.#release();
  }

  tell({ hasGateway }: BindSourceNews): void {
    if (hasGateway === this.#isWanted) return;
    this.#isWanted = hasGateway;
    this.#inTurn(() => this.#settle());
  }

  isOpen(_namespace: string, socket: string): boolean | undefined {
    return socket.startsWith(OWNER) ? this.#foundOpen.has(socket) || this.#reported.has(socket) : undefined;
  }

  #inTurn(act: () => Promise<void>): void {
    this.#turn = this.#turn.then(act).catch((error: unknown) => {
      // The module is gone, or this source is.
      if (!this.#family) return;
      this.#options.logger.error({ err: error }, "the module nat_pass does not do what it is asked");
    });
  }

  async #settle(): Promise<void> {
    const family = this.#family;
    if (!family || this.#isWanted === this.#isRegistered) return;
    if (this.#isWanted) {
      const { policy, waitMs } = this.#options;
      await family.request("register", {
        dualStack: policy.dualStack,
        wait: Math.min(waitMs, NAT_PASS_MAX_WAIT_MS),
        // Those beyond are asked about in vain.
        exclusion: policy.exclusions.slice(0, NAT_PASS_MAX_EXCLUSIONS).map(({ protocol, port, to }) => ({
          ...(protocol && { protocol: protocol === "tcp" ? IPPROTO_TCP : IPPROTO_UDP }),
          port,
          ...(to !== undefined && { to }),
        })),
      });
      this.#isRegistered = true;
      this.#options.logger.info({}, "the module nat_pass asks here");
      await this.#compare();
      await this.#takeUpOthers();
    } else {
      this.#isRegistered = false;
      await family.request("unregister", {});
      this.#options.logger.info({}, "the module nat_pass asks nobody");
    }
  }

  /** Brings what was reported to what is: of before the registration, or after events were lost. */
  async #compare(): Promise<void> {
    if (!this.#isRegistered) return;
    const touched = new Set<string>();
    this.#touched = touched;
    let ports: NatPassPort[];
    try {
      ports = await this.#ports();
    } finally {
      this.#touched = undefined;
    }
    const listed = new Map(ports.map((port) => [ownerOf(port), port]));
    for (const owner of new Set([...this.#reported.keys(), ...this.#foundOpen])) {
      if (!touched.has(owner) && !listed.has(owner)) this.#forget(owner);
    }
    this.#foundOpen.clear();
    for (const [owner, port] of listed) {
      if (touched.has(owner) || this.#reported.get(owner) === port.seq || port.state === "failed") continue;
      void this.#bind(port);
    }
  }

  /** Sockets whose binds were none of the module's: before it was loaded, or while no gateway answered. */
  async #takeUpOthers(): Promise<void> {
    const look = new SocketsSource(this.#options);
    await look.start({
      opened: async (bind) => {
        if (this.#reported.has(ownerName(bind.protocol, bind.port))) return { answer: "ignored", reason: "no-answer" };
        return this.#listener!.opened(bind);
      },
      closed: () => undefined,
      ended: () => undefined,
    });
    await look.stop();
  }

  async #ports(): Promise<NatPassPort[]> {
    for (let turn = 1; ; turn++) {
      const { entries, interrupted } = await this.#family!.dump("port-get", {});
      if (!interrupted || turn === MOST_DUMPS) return entries;
    }
  }

  async #bind(port: NatPassPort): Promise<void> {
    const owner = ownerOf(port);
    const { seq = 0 } = port;
    this.#touched?.add(owner);
    this.#reported.set(owner, seq);
    const request = requestOf(port, owner);
    const { answer } = await this.#listener!.opened(request);
    // One that asked before this process did not wait for it.
    if (port.state !== "waiting") return;
    try {
      await this.#family?.request(answer, { seq });
      if (answer === "failed" && this.#reported.get(owner) === seq) this.#reported.delete(owner);
    } catch (error) {
      const isLate = error instanceof NetlinkError && error.code === "ENOENT";
      // The program has its port all the same: it is mapped as soon as that can be.
      if (isLate && answer === "failed" && this.#reported.get(owner) === seq) {
        await this.#listener!.opened({ ...request, isSettled: true });
      }
    }
  }

  #close(port: NatPassPort): void {
    const owner = ownerOf(port);
    this.#touched?.add(owner);
    if (this.#reported.get(owner) === port.seq) this.#forget(owner);
  }

  #forget(owner: string): void {
    this.#reported.delete(owner);
    this.#listener?.closed("", owner);
  }

  #end(): void {
    if (!this.#family) return;
    this.#release();
    // Nobody would tell of their ends any more.
    for (const owner of [...this.#reported.keys(), ...this.#foundOpen]) this.#forget(owner);
    this.#listener?.ended("the module nat_pass was unloaded");
  }

  #release(): void {
    const [family, families] = [this.#family, this.#families];
    this.#family = undefined;
    this.#families = undefined;
    this.#isRegistered = false;
    family?.close();
    families?.close();
  }
}

function ownerOf({ protocol, port = 0 }: NatPassPort): string {
  return ownerName(protocolOf(protocol), port);
}

function ownerName(protocol: string, port: number): string {
  return `${OWNER}${protocol} ${port}`;
}

function protocolOf(protocol: number | undefined): "tcp" | "udp" {
  return protocol === IPPROTO_UDP ? "udp" : "tcp";
}

function requestOf(asked: NatPassPort, socket: string): BindRequest {
  const { protocol, family, port = 0, pid = 0, uid = 0, comm = "" } = asked;
  return {
    namespace: "",
    socket,
    pid,
    uid,
    program: comm,
    // Of IPv6 it tells of both forms of "any", and of sockets alone that take IPv4.
    ...(family === AF_INET ? { family: "ipv4", address: "0.0.0.0" } : { family: "ipv6", address: "::" }),
    v6only: false,
    protocol: protocolOf(protocol),
    port,
    isSettled: asked.state !== "waiting",
  };
}

function reasonOf(error: unknown): string {
  if (error instanceof NetlinkError) {
    if (error.code === "ENOENT") return "the module nat_pass is not loaded";
    if (error.code === "EPERM") return "the module nat_pass answers only who has CAP_NET_ADMIN";
  }
  return (error as Error).message;
}
