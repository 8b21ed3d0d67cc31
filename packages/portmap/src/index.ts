export * from "./gateway.ts";
export { NatPmpGateway, type NatPmpGatewayOptions } from "./port-control/nat-pmp-gateway.ts";
export { PcpGateway, type PcpGatewayOptions } from "./port-control/pcp-gateway.ts";
export { type GatewayMemory, PortMapper, type PortMapperEvent, type PortMapperOptions } from "./port-mapper.ts";
export { PORTMAP_CODES, type PortmapCode, PortmapError, type PortmapErrorOptions } from "./portmap-error.ts";
export { defaultRoute, ownAddresses, type Route } from "./route.ts";
export { UpnpGateway, type UpnpGatewayOptions } from "./upnp/upnp-gateway.ts";
