import { LabError } from "./lab-error.ts";

/*
 * The numbering plan. Public addresses look public to every program (real gateways refuse to work behind reserved
 * ranges such as 203.0.113.0/24), and belong to nobody that a lab could reach.
 *
 *   11.0.0.1           the Internet itself: every attachment's gateway
 *   11.1.0.0/16        public hosts and routers
 *   11.2.N.0/24        the LAN of home number N without NAT
 *   2a0e:1a::1, 2a0e:1a:1::/64, 2a0e:1a:2:N::/64      the same in IPv6; every home's LAN with IPv6
 */
export const INTERNET_IPV4 = "11.0.0.1";
export const INTERNET_IPV6 = "2a0e:1a::1";

/** The gateway of an attachment to the Internet, on the attachment's own link. */
export const GATEWAY_IPV6 = "fe80::1";

/** Every home's LAN unless told otherwise: that all are equal is what real homes do. */
export const DEFAULT_SUBNET = "192.168.1.0/24";

const ATTACHMENTS_MAX = 65_000;

/** The n-th public address, from 1 on. */
export function publicIpv4(n: number): string {
  if (n > ATTACHMENTS_MAX) throw new LabError("the lab has no public addresses left");
  return `11.1.${n >> 8}.${n & 255}`;
}

export function publicIpv6(n: number): string {
  return `2a0e:1a:1::${n.toString(16)}`;
}

export function publicSubnet(home: number): string {
  if (home > 255) throw new LabError("the lab has no public subnets left");
  return `11.2.${home}.0/24`;
}

/** The first four groups of a home's /64. */
export function homePrefix(home: number): string {
  return `2a0e:1a:2:${home.toString(16)}`;
}

/** An IPv4 subnet and its host addresses. */
export class Subnet {
  readonly text: string;
  readonly bits: number;
  readonly #base: number;

  /** @param text for example 192.168.1.0/24; @throws LabError */
  constructor(text: string) {
    const [address, bits] = text.split("/");
    this.text = text;
    this.bits = Number(bits);
    this.#base = toNumber(address ?? "");
    if (!(this.bits >= 8 && this.bits <= 29) || Number.isNaN(this.#base) || this.#base % this.#size !== 0) {
      throw new LabError(`${text} is no IPv4 subnet between /8 and /29`);
    }
  }

  get #size(): number {
    return 2 ** (32 - this.bits);
  }

  /** The n-th address, from 1 on. */
  address(n: number): string {
    if (n < 1 || n > this.#size - 2) throw new LabError(`${this.text} has no address number ${n}`);
    return toText(this.#base + n);
  }

  overlaps(other: Subnet): boolean {
    return this.#base < other.#base + other.#size && other.#base < this.#base + this.#size;
  }
}

function toNumber(address: string): number {
  const parts = address.split(".").map(Number);
  if (parts.length !== 4 || parts.some((part) => !(part >= 0 && part <= 255))) return Number.NaN;
  return parts.reduce((sum, part) => sum * 256 + part, 0);
}

function toText(address: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join(".");
}
