import { Lab, searchCapture } from "@isthmus/lab";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openFlow, startLineServer } from "./fixtures/index.ts";

let lab: Lab;

beforeEach(async () => {
  lab = await Lab.create();
});
afterEach(() => lab.destroy());

test.each(["tcp", "udp"] as const)("bytes that crossed a node over %s are found, others are not", async (protocol) => {
  const [server, home] = await Promise.all([lab.host("server"), lab.home({ name: "home", nat: "full-cone" })]);
  await startLineServer(server);
  const capture = await server.capture();
  const flow = await openFlow(protocol, home.host, server);
  await flow.ask("a secret of thirty-two bytes ....");
  expect(await capture.stop()).toBeGreaterThan(1);

  const [present, absent] = [Buffer.from("secret of thirty-two"), Buffer.from("nobody wrote this")];
  const findings = searchCapture(capture.file, [present, absent]);
  expect(findings.every(({ needle }) => needle === present)).toBe(true);
  expect(findings.map(({ flow: where }) => where)).toContainEqual(
    expect.stringMatching(new RegExp(`^${protocol} ${home.address}:\\d+ > ${server.ipv4}:7000$`)),
  );
});

test("bytes cut in two by the end of a packet are found", async () => {
  const [server, client] = await Promise.all([lab.host("server"), lab.host("client")]);
  await startLineServer(server);
  const capture = await client.capture({ iface: "eth0", filter: `src ${client.ipv4} and tcp` });
  const flow = await openFlow("tcp", client, server);
  await flow.ask("the first half of a sec");
  await flow.ask("ret and the other half");
  await capture.stop();
  expect(searchCapture(capture.file, [Buffer.from("half of a secret and the")])).toHaveLength(1);
});

test("a filter leaves other packets out", async () => {
  const [server, client] = await Promise.all([lab.host("server"), lab.host("client")]);
  await startLineServer(server);
  const capture = await server.capture({ filter: "udp" });
  const [tcp, udp] = await Promise.all([openFlow("tcp", client, server), openFlow("udp", client, server)]);
  await tcp.ask("over tcp");
  await udp.ask("over udp");
  await capture.stop();
  const found = searchCapture(capture.file, [Buffer.from("over tcp"), Buffer.from("over udp")]);
  expect(new Set(found.map(({ needle }) => needle.toString()))).toEqual(new Set(["over udp"]));
});
