export { startDnsmasq } from "./dnsmasq.ts";
export { Exim } from "./exim.ts";
export { startIperf } from "./iperf.ts";
export { Nginx } from "./nginx.ts";
export { ownFile, ownFolder } from "./own-folder.ts";
export { startRedis } from "./redis.ts";
export { Sshd, SshUser } from "./sshd.ts";
