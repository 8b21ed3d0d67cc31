/**
 * The calls of the npm package nat-upnp 1.1, for programs that were written for it:
 * `import natUpnp from "@isthmus/portmap/nat-upnp"`, or `require` of the same name. Errors are PortmapErrors, so a
 * conflict can be told from a refusal.
 */
import { createClient } from "./nat-upnp-client.ts";

export { createClient, NatUpnpClient, type NatUpnpSettings } from "./nat-upnp-client.ts";
export type {
  GetMappingsOptions,
  NatUpnpCallback,
  NatUpnpEndpoint,
  NatUpnpMapping,
  PortMappingOptions,
  PortUnmappingOptions,
} from "./nat-upnp-options.ts";

export default { createClient };
