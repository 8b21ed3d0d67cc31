export { CellRendezvous, type LegId, type RendezvousCommand, STREAM_HALF_MS, StreamRendezvous } from "./rendezvous.ts";
