import { randomUUID } from "node:crypto";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import type { PortMapperOptions } from "../port-mapper.ts";
import { FakeIgd } from "./fake-igd.ts";
import { FakeMappings } from "./fake-mappings.ts";
import { FakePortControl } from "./fake-port-control.ts";
import { FAKE_DEFAULTS, type FakeSettings } from "./fake-settings.ts";
import { FakeSsdp, sendFrom } from "./fake-ssdp.ts";
import { FakeWeb } from "./fake-web.ts";

/** It has run for long when a test meets it, and is younger after each start: clocks that went back are seen at once. */
const FIRST_AGE_S = 100_000;
const YOUNGER_S = 1000;

/**
 * A gateway on this host's loopback, on ports of its own: UPnP IGD 1 or 2, PCP and NAT-PMP over one table of mappings,
 * as miniupnpd answers them, and every misbehaviour of `FakeSettings`. It maps nothing for real.
 */
export class FakeGateway {
  readonly settings: FakeSettings;
  readonly mappings = new FakeMappings();
  readonly web: FakeWeb;
  readonly ssdp: FakeSsdp;
  readonly portControl: FakePortControl;
  #starts = 0;
  #ports = { ssdp: 0, portControl: 0, announcements: 0, web: 0 };

  private constructor(settings: Partial<FakeSettings>) {
    this.settings = { ...FAKE_DEFAULTS, ...settings };
    const device = `uuid:${randomUUID()}`;
    const igd = new FakeIgd(this.settings, this.mappings, () => this.web.port);
    this.web = new FakeWeb(this.settings, igd, device);
    this.ssdp = new FakeSsdp(this.settings, device, () => this.location);
    this.portControl = new FakePortControl(this.settings, this.mappings);
  }

  /** @param like another fake, at another address, whose ports it shall have */
  static async start(settings: Partial<FakeSettings> = {}, like?: FakeGateway): Promise<FakeGateway> {
    const gateway = new FakeGateway(settings);
    if (like) gateway.#ports = { ...like.#ports };
    else gateway.#ports.announcements = await freePort();
    await gateway.#listen();
    return gateway;
  }

  /** Of its description. */
  get location(): string {
    return `http://${this.settings.address}:${this.#ports.web}/rootDesc.xml`;
  }

  /** How a PortMapper on that own address gets at this gateway. */
  optionsFor(localAddress: string): Required<Pick<PortMapperOptions, "route" | "ownAddresses" | "ports">> {
    const { ssdp, portControl, announcements } = this.#ports;
    return {
      route: () => Promise.resolve({ gateway: this.settings.address, localAddress }),
      ownAddresses: () => [localAddress],
      ports: { ssdp, portControl, announcements },
    };
  }

  /** The ports that it listens on, also while it is off. */
  get ports(): Readonly<{ ssdp: number; portControl: number; web: number }> {
    return this.#ports;
  }

  /** @param goodbye it is told to stop; otherwise its power goes */
  async stop({ goodbye = true } = {}): Promise<void> {
    if (goodbye && this.settings.igd !== 0) await this.ssdp.notify("byebye", this.#ports.ssdp);
    this.ssdp.stop();
    this.portControl.stop();
    await this.web.stop();
  }

  /** Comes back with the ports it had and without its mappings, and announces itself unless it is `silent`. */
  async startAgain({ silent = false } = {}): Promise<void> {
    this.mappings.clear();
    this.ssdp.bootId++;
    await this.#listen();
    if (!silent) await this.announce();
  }

  async restart(options: { goodbye?: boolean; silent?: boolean } = {}): Promise<void> {
    await this.stop(options);
    await this.startAgain(options);
  }

  /** What a gateway tells everybody after its start. */
  async announce(): Promise<void> {
    if (this.settings.igd !== 0) await this.ssdp.notify("alive", this.#ports.ssdp);
    await this.announcePortControl();
  }

  async announcePortControl(): Promise<void> {
    for (const datagram of this.portControl.announcements) {
      await sendFrom(this.settings.address, datagram, this.#ports.announcements, "224.0.0.1");
    }
  }

  async #listen(): Promise<void> {
    const { igd, pcp, natPmp } = this.settings;
    await this.ssdp.start(this.#ports.ssdp);
    this.#ports.ssdp = this.ssdp.port;
    if (igd !== 0) await this.web.start(this.#ports.web);
    this.#ports.web = this.web.port;
    const ageSeconds = FIRST_AGE_S - YOUNGER_S * this.#starts++;
    if (pcp || natPmp) await this.portControl.start(this.#ports.portControl, ageSeconds);
    this.#ports.portControl = this.portControl.port || (await freePort());
  }
}

async function freePort(): Promise<number> {
  const socket = createSocket("udp4");
  socket.bind(0);
  await once(socket, "listening");
  const { port } = socket.address();
  socket.close();
  return port;
}
