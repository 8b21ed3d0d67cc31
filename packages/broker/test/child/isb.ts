import { Broker } from "@isthmus/broker";
import { loadOrCreateIdentity, Metrics, silentLogger } from "@isthmus/service";
import { openStore } from "@isthmus/store";
import { testSettings } from "../support/settings.ts";

// An ISB in a process of its own, to be killed: argument 1 its folder, argument 2 the port or 0. Says on standard output
// its port, its key and the invites that were asked for (arguments from 3 on: users, or `ist`).
const [folder, port, ...wanted] = process.argv.slice(2) as [string, string, ...string[]];
const identity = loadOrCreateIdentity(`${folder}/key.pem`);
const store = await openStore(`${folder}/store`, { logger: silentLogger() });
const broker = new Broker({
  identity,
  store,
  settings: testSettings(),
  host: "127.0.0.1",
  port: Number(port),
  isBehindProxy: false,
  metrics: new Metrics("isb"),
  logger: silentLogger(),
});
const listening = await broker.start();
const invites: string[] = [];
for (const user of wanted) {
  const { operations } = broker;
  const lifetime = { uses: 1, lifetimeS: 3600 };
  const made = user === "ist" ? { role: "ist" as const, ...lifetime } : { role: "daemon" as const, user, ...lifetime };
  invites.push((await operations.createInvite(made)).text);
}
process.stdout.write(`${JSON.stringify({ port: listening, key: identity.publicKey, invites })}\n`);
