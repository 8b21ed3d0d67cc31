import { encodeInvite, fingerprintOf, PROTOCOL_VERSION } from "@isthmus/protocol";
import type { Invites, NewInvite } from "./profiles/invites.ts";

export interface InviteTextOptions {
  invites: Invites;
  /** This ISB's public key. */
  key: string;
  secure: boolean;
  /** Of the certificate that clients are to pin. */
  certificate: string | undefined;
  /** HOST:PORT under which this ISB is reached; asked for each invite. */
  addresses: () => string[];
}

/** Invites as people hand them on: the right to register, and how to find and know this ISB. */
export class InviteTexts {
  readonly #options: InviteTextOptions;

  constructor(options: InviteTextOptions) {
    this.#options = options;
  }

  /** @throws IsthmusError `store-unavailable` */
  async create(invite: NewInvite): Promise<{ id: string; text: string; expires: string }> {
    const { invites, key, secure, certificate, addresses } = this.#options;
    const { id, token, record } = await invites.create(invite);
    const text = encodeInvite({
      v: PROTOCOL_VERSION,
      role: invite.role,
      addresses: addresses(),
      secure,
      isb: fingerprintOf(key),
      ...(certificate === undefined ? {} : { certificate }),
      token,
      ...(invite.user === undefined ? {} : { user: invite.user }),
    });
    return { id, text, expires: record.expires };
  }
}
