import { startBroker } from "./broker.ts";
import { startDaemon } from "./daemon.ts";
import { startTlsProxy } from "./tls-proxy.ts";

/** A broker whose sessions come through a proxy, and a daemon of alice's that has come so. */
export async function startBehindProxy() {
  const proxy = await startTlsProxy();
  const server = await startBroker({ isBehindProxy: true, settings: { public: [proxy.origin] } });
  proxy.passTo(server.port);
  const alice = await startDaemon(
    { origin: proxy.origin, identity: server.identity },
    { invite: await server.invite("alice"), certificate: proxy.certificate.fingerprint },
  );
  return { server, alice };
}
