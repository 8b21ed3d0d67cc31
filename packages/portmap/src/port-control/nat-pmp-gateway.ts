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
} from "../gateway.ts";
import { type PortmapCode, PortmapError } from "../portmap-error.ts";
import { EpochClock, natPmpEpochHolds } from "./epoch.ts";
import { exchange } from "./exchange.ts";
import { GrantedPorts } from "./granted-ports.ts";
import {
  NAT_PMP_RESULT,
  type NatPmpAnswer,
  type NatPmpMapRequest,
  natPmpAddressRequest,
  natPmpMapRequest,
  parseNatPmpAnswer,
} from "./nat-pmp-packet.ts";
import { PORT_CONTROL_PORT } from "./port-control.ts";

/** Zero would delete, so a mapping without end is asked for as one of a week. */
const LONGEST_LIFETIME_S = 604_800;

const RESULTS: Record<number, { code: PortmapCode; text: string }> = {
  [NAT_PMP_RESULT.unsupportedVersion]: { code: "unsupported", text: "unsupported version" },
  [NAT_PMP_RESULT.notAuthorized]: { code: "denied", text: "not authorized" },
  [NAT_PMP_RESULT.networkFailure]: { code: "failed", text: "network failure" },
  [NAT_PMP_RESULT.outOfResources]: { code: "full", text: "out of resources" },
  [NAT_PMP_RESULT.unsupportedOpcode]: { code: "unsupported", text: "unsupported opcode" },
};

export interface NatPmpGatewayOptions {
  address: string;
  /** @default 5351 */
  port?: number;
  /** The own address to ask from. @default the system's choice */
  localAddress?: string | undefined;
  /** Shared by all that hear this gateway's NAT-PMP. */
  epoch?: EpochClock;
  onSign?: (sign: GatewaySign) => void;
}

/** A gateway that speaks NAT-PMP (RFC 6886). */
export class NatPmpGateway implements Gateway {
  readonly kind = "nat-pmp";
  readonly address: string;
  readonly capabilities = { lookUp: false, list: false };
  readonly #options: NatPmpGatewayOptions;
  readonly #epoch: EpochClock;
  readonly #granted = new GrantedPorts();

  constructor(options: NatPmpGatewayOptions) {
    this.address = options.address;
    this.#options = options;
    this.#epoch = options.epoch ?? new EpochClock(natPmpEpochHolds);
  }

  async map(request: MapRequest, options: CallOptions = {}): Promise<Mapping> {
    const { anyPort, internalAddress, ...wanted } = checkedRequest(request);
    if (internalAddress !== undefined) throw new PortmapError("unsupported", "NAT-PMP maps for the asking host alone");
    const signal = deadline(options);
    const lifetimeSeconds = wanted.lifetimeSeconds === 0 ? LONGEST_LIFETIME_S : wanted.lifetimeSeconds;
    const answer = await this.#ask({ ...wanted, lifetimeSeconds }, signal);
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
    return Promise.reject(new PortmapError("unsupported", "NAT-PMP cannot look up a port"));
  }

  list(): Promise<never> {
    return Promise.reject(new PortmapError("unsupported", "NAT-PMP has no list of mappings"));
  }

  async externalAddress(options: CallOptions = {}): Promise<string> {
    const answer = await this.#exchange(
      natPmpAddressRequest(),
      ({ about }) => about.kind === "address",
      deadline(options),
    );
    if (answer.about.kind !== "address" || answer.about.address === "0.0.0.0") {
      throw new PortmapError("failed", "the gateway has no outer address");
    }
    return answer.about.address;
  }

  async probe(options: CallOptions = {}): Promise<string | undefined> {
    try {
      return await this.externalAddress(options);
    } catch (error) {
      // A gateway whose own uplink is down is there all the same.
      if (error instanceof PortmapError && error.code === "failed") return undefined;
      throw error;
    }
  }

  async #delete(
    { protocol, internalPort }: Pick<NatPmpMapRequest, "protocol" | "internalPort">,
    signal: AbortSignal,
  ): Promise<void> {
    await this.#ask({ protocol, internalPort, externalPort: 0, lifetimeSeconds: 0 }, signal);
    this.#granted.delete(protocol, internalPort);
  }

  async #ask(
    request: NatPmpMapRequest,
    signal: AbortSignal,
  ): Promise<{ externalPort: number; lifetimeSeconds: number; localAddress: string }> {
    const { about, localAddress } = await this.#exchange(
      natPmpMapRequest(request),
      ({ about }) =>
        about.kind === "map" && about.protocol === request.protocol && about.internalPort === request.internalPort,
      signal,
    );
    if (about.kind !== "map") throw new PortmapError("malformed");
    if (request.lifetimeSeconds > 0 && (about.externalPort === 0 || about.lifetimeSeconds === 0)) {
      throw new PortmapError("malformed", "the gateway's NAT-PMP answer maps nothing");
    }
    return { externalPort: about.externalPort, lifetimeSeconds: about.lifetimeSeconds, localAddress };
  }

  async #exchange(
    packet: Buffer,
    fits: (answer: NatPmpAnswer) => boolean,
    signal: AbortSignal,
  ): Promise<NatPmpAnswer & { localAddress: string }> {
    const { address, port = PORT_CONTROL_PORT, localAddress } = this.#options;
    let ownAddress = "";
    const answer = await exchange({
      gateway: address,
      port,
      localAddress,
      request: (local) => {
        ownAddress = local;
        return packet;
      },
      parse: (datagram) => {
        const parsed = parseNatPmpAnswer(datagram);
        return fits(parsed) || parsed.about.kind === "refusal" ? parsed : undefined;
      },
      signal,
    });
    if (!this.#epoch.hear(answer.epoch)) this.#options.onSign?.({ sign: "restarted", why: "epoch" });
    if (answer.result !== NAT_PMP_RESULT.success) throw resultError(answer.result);
    if (answer.about.kind === "address") this.#options.onSign?.({ sign: "address", address: answer.about.address });
    return { ...answer, localAddress: ownAddress };
  }
}

function resultError(result: number): PortmapError {
  const { code, text } = RESULTS[result] ?? { code: "failed", text: "unknown result" };
  return new PortmapError(code, `the gateway answered ${result} (${text})`, { gatewayCode: result });
}
