import { createHmac, randomBytes } from "node:crypto";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { deadline } from "../deadline.ts";
import {
  type CallOptions,
  checkedRequest,
  checkKey,
  type Gateway,
  type GatewaySign,
  type Mapping,
  type MappingKey,
  type MapRequest,
  type Protocol,
} from "../gateway.ts";
import { type PortmapCode, PortmapError } from "../portmap-error.ts";
import { EpochClock, pcpEpochHolds } from "./epoch.ts";
import { exchange } from "./exchange.ts";
import { GrantedPorts } from "./granted-ports.ts";
import { NatPmpGateway } from "./nat-pmp-gateway.ts";
import {
  PCP_NONCE_BYTES,
  PCP_RESULT,
  type PcpAnswer,
  type PcpMapAnswer,
  type PcpMapRequest,
  parsePcpAnswer,
  pcpAnnounceRequest,
  pcpMapRequest,
} from "./pcp-packet.ts";
import { PORT_CONTROL_PORT, PROTOCOL_NUMBERS } from "./port-control.ts";

/** Zero would delete, so a mapping without end is asked for as one of a week. */
const LONGEST_LIFETIME_S = 604_800;
/** Of the mapping that is made to learn the outer address; it is deleted at once as well. */
const LEARNING_LIFETIME_S = 60;
/** miniupnpd 2.3.1 never comes back from a MAP for a port that its rules deny, and all deny these. */
const FIRST_UNPRIVILEGED_PORT = 1024;

const RESULTS: Record<number, { code: PortmapCode; text: string }> = {
  [PCP_RESULT.unsupportedVersion]: { code: "unsupported", text: "unsupported version" },
  [PCP_RESULT.notAuthorized]: { code: "denied", text: "not authorized" },
  [PCP_RESULT.malformedRequest]: { code: "unsupported", text: "malformed request" },
  [PCP_RESULT.unsupportedOpcode]: { code: "unsupported", text: "unsupported opcode" },
  [PCP_RESULT.unsupportedOption]: { code: "unsupported", text: "unsupported option" },
  [PCP_RESULT.malformedOption]: { code: "unsupported", text: "malformed option" },
  [PCP_RESULT.networkFailure]: { code: "failed", text: "network failure" },
  [PCP_RESULT.noResources]: { code: "full", text: "no resources" },
  [PCP_RESULT.unsupportedProtocol]: { code: "unsupported", text: "unsupported protocol" },
  [PCP_RESULT.exceededQuota]: { code: "full", text: "quota exceeded" },
  [PCP_RESULT.cannotProvideExternal]: { code: "other-port", text: "cannot provide the external port" },
  [PCP_RESULT.addressMismatch]: { code: "denied", text: "address mismatch: another NAT is on the way" },
  [PCP_RESULT.excessiveRemotePeers]: { code: "full", text: "excessive remote peers" },
};

export interface PcpGatewayOptions {
  address: string;
  /** @default 5351 */
  port?: number;
  /** The own address to ask from. @default the system's choice */
  localAddress?: string | undefined;
  /**
   * What the nonces of mappings are made of. Only who knows a mapping's nonce can delete it: keep the key to be able to
   * after a restart. @default random
   */
  nonceKey?: Buffer;
  /** Shared by all that hear this gateway's PCP. */
  epoch?: EpochClock;
  onSign?: (sign: GatewaySign) => void;
}

/** A gateway that speaks PCP (RFC 6887). */
export class PcpGateway implements Gateway {
  readonly kind = "pcp";
  readonly address: string;
  readonly capabilities = { lookUp: false, list: false };
  readonly #options: PcpGatewayOptions;
  readonly #nonceKey: Buffer;
  readonly #epoch: EpochClock;
  readonly #granted = new GrantedPorts();
  #knowsPreferFailure = true;

  constructor(options: PcpGatewayOptions) {
    this.address = options.address;
    this.#options = options;
    this.#nonceKey = options.nonceKey ?? randomBytes(32);
    this.#epoch = options.epoch ?? new EpochClock(pcpEpochHolds);
  }

  async map(request: MapRequest, options: CallOptions = {}): Promise<Mapping> {
    const { anyPort, internalAddress, ...wanted } = checkedRequest(request);
    if (internalAddress !== undefined) throw new PortmapError("unsupported", "PCP maps for the asking host alone");
    if (wanted.externalPort < FIRST_UNPRIVILEGED_PORT || wanted.internalPort < FIRST_UNPRIVILEGED_PORT) {
      throw new PortmapError(
        "unsupported",
        "privileged ports are not asked for by PCP: a common gateway never recovers",
      );
    }
    const signal = deadline(options);
    const lifetimeSeconds = wanted.lifetimeSeconds === 0 ? LONGEST_LIFETIME_S : wanted.lifetimeSeconds;
    const answer = await this.#ask({ ...wanted, lifetimeSeconds }, !anyPort, signal);
    if (answer.externalPort !== wanted.externalPort && !anyPort) {
      if (!this.#granted.has(wanted.protocol, wanted.internalPort)) await this.#delete(wanted, signal);
      throw new PortmapError("other-port", `the gateway offers port ${answer.externalPort} instead`);
    }
    this.#granted.add(wanted.protocol, wanted.internalPort);
    return {
      protocol: wanted.protocol,
      externalPort: answer.externalPort,
      internalAddress: answer.localAddress,
      internalPort: wanted.internalPort,
      lifetimeSeconds: answer.lifetimeSeconds,
      description: "",
      enabled: true,
      remoteHost: "",
    };
  }

  async unmap(key: MappingKey, options: CallOptions = {}): Promise<void> {
    checkKey(key);
    const { protocol, externalPort, internalPort = externalPort } = key;
    await this.#delete({ protocol, internalPort }, deadline(options));
  }

  lookUp(): Promise<never> {
    return Promise.reject(new PortmapError("unsupported", "PCP cannot look up a port"));
  }

  list(): Promise<never> {
    return Promise.reject(new PortmapError("unsupported", "PCP has no list of mappings"));
  }

  /** Asks by NAT-PMP, which nearly every PCP gateway speaks too; otherwise maps a port of its own for a moment. */
  async externalAddress(options: CallOptions = {}): Promise<string> {
    const signal = deadline(options);
    const { address, port, localAddress } = this.#options;
    try {
      return await new NatPmpGateway({ address, ...(port !== undefined && { port }), localAddress }).externalAddress({
        signal,
        timeoutMs: 500,
      });
    } catch (error) {
      if (signal.aborted || (error instanceof PortmapError && error.code === "failed")) throw error;
    }
    return this.#learnAddress(signal);
  }

  async probe(options: CallOptions = {}): Promise<undefined> {
    try {
      await this.#exchange(pcpAnnounceRequest, ({ opcode }) => opcode === "announce", deadline(options));
    } catch (error) {
      // To know no announcements is an answer as well.
      const isAnswer = error instanceof PortmapError && error.gatewayCode === PCP_RESULT.unsupportedOpcode;
      if (!isAnswer) throw error;
    }
  }

  /** RFC 6887, 11.6, but with a port that is certainly not anybody else's. */
  async #learnAddress(signal: AbortSignal): Promise<string> {
    const holder = createSocket("udp4");
    try {
      holder.bind(0, this.#options.localAddress ?? "0.0.0.0");
      await once(holder, "listening", { signal });
      const internalPort = holder.address().port;
      const wanted = { protocol: "udp", internalPort, externalPort: internalPort } as const;
      const { externalAddress } = await this.#ask({ ...wanted, lifetimeSeconds: LEARNING_LIFETIME_S }, false, signal);
      await this.#delete(wanted, signal);
      if (externalAddress === undefined) throw new PortmapError("failed", "the gateway has no outer IPv4 address");
      return externalAddress;
    } finally {
      holder.close();
    }
  }

  async #delete(
    { protocol, internalPort }: Pick<PcpMapRequest, "protocol" | "internalPort">,
    signal: AbortSignal,
  ): Promise<void> {
    try {
      await this.#ask({ protocol, internalPort, externalPort: 0, lifetimeSeconds: 0 }, false, signal);
    } catch (error) {
      // miniupnpd's word for a mapping that is not there; RFC 6887, 15.1 calls that a success.
      if (!(error instanceof PortmapError && error.gatewayCode === PCP_RESULT.noResources)) throw error;
    }
    this.#granted.delete(protocol, internalPort);
  }

  async #ask(
    request: Omit<PcpMapRequest, "client" | "nonce" | "preferFailure">,
    preferFailure: boolean,
    signal: AbortSignal,
  ): Promise<PcpMapAnswer & { lifetimeSeconds: number; localAddress: string }> {
    const nonce = this.#nonce(request.protocol, request.internalPort);
    const asksForFailure = preferFailure && this.#knowsPreferFailure;
    try {
      const { map, lifetimeSeconds, localAddress } = await this.#exchange(
        (client) => pcpMapRequest({ ...request, client, nonce, preferFailure: asksForFailure }),
        (answer) => answer.opcode === "map" && (answer.map === undefined || isAnswerTo(answer.map, request, nonce)),
        signal,
      );
      if (!map || (request.lifetimeSeconds > 0 && (map.externalPort === 0 || lifetimeSeconds === 0))) {
        throw new PortmapError("malformed", "the gateway's PCP answer maps nothing");
      }
      if (map.externalAddress !== undefined && request.lifetimeSeconds > 0) {
        this.#options.onSign?.({ sign: "address", address: map.externalAddress });
      }
      return { ...map, lifetimeSeconds, localAddress };
    } catch (error) {
      const isOption = error instanceof PortmapError && error.gatewayCode === PCP_RESULT.unsupportedOption;
      if (!isOption || !asksForFailure) throw error;
      this.#knowsPreferFailure = false;
      return this.#ask(request, false, signal);
    }
  }

  async #exchange(
    request: (client: string) => Buffer,
    fits: (answer: PcpAnswer) => boolean,
    signal: AbortSignal,
  ): Promise<PcpAnswer & { localAddress: string }> {
    const { address, port = PORT_CONTROL_PORT, localAddress } = this.#options;
    let ownAddress = "";
    const answer = await exchange({
      gateway: address,
      port,
      localAddress,
      request: (local) => {
        ownAddress = local;
        return request(local);
      },
      parse: (datagram) => {
        const parsed = parsePcpAnswer(datagram);
        return fits(parsed) ? parsed : undefined;
      },
      signal,
    });
    if (!this.#epoch.hear(answer.epoch)) this.#options.onSign?.({ sign: "restarted", why: "epoch" });
    if (answer.result !== PCP_RESULT.success) throw resultError(answer);
    return { ...answer, localAddress: ownAddress };
  }

  #nonce(protocol: Protocol, internalPort: number): Buffer {
    const digest = createHmac("sha256", this.#nonceKey).update(`${protocol} ${internalPort}`).digest();
    return digest.subarray(0, PCP_NONCE_BYTES);
  }
}

/** RFC 6887, 11.4. */
function isAnswerTo(
  answer: PcpMapAnswer,
  { protocol, internalPort }: Pick<PcpMapRequest, "protocol" | "internalPort">,
  nonce: Buffer,
): boolean {
  return (
    answer.nonce.equals(nonce) &&
    answer.protocolNumber === PROTOCOL_NUMBERS[protocol] &&
    answer.internalPort === internalPort
  );
}

function resultError({ result, lifetimeSeconds }: PcpAnswer): PortmapError {
  const { code, text } = RESULTS[result] ?? { code: "failed", text: "unknown result" };
  return new PortmapError(code, `the gateway answered ${result} (${text})`, {
    gatewayCode: result,
    ...(lifetimeSeconds > 0 && { retryAfterMs: lifetimeSeconds * 1000 }),
  });
}
