import type { isbDaemon } from "@isthmus/protocol";
import type { Session } from "@isthmus/session";

/** What the broker keeps of a daemon's login beside the session itself. Small: there is one for every device. */
export class DaemonContext {
  readonly user: string;
  /** It has said what it provides and uses. */
  declared = false;
  /** Where it takes direct legs, as it says. */
  legPort: number | undefined = undefined;
  /** HOST:PORT at which the broker's own dial reached it. */
  reachable: string | undefined = undefined;
  /** The newest declaration that is being carried out or waits for the one before, and how many there are. */
  declaring: Promise<unknown> | undefined = undefined;
  declarations = 0;

  constructor(user: string) {
    this.user = user;
  }
}

export type DaemonProtocol = typeof isbDaemon;
export type DaemonSession = Session<DaemonProtocol, DaemonContext>;

/** The session of a device, if it is logged in. */
export type FindDaemon = (key: string) => DaemonSession | undefined;
