import { createHash, randomBytes } from "node:crypto";
import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { once } from "node:events";
import { connect } from "node:net";
import { cannotForge, sendFromPortZero } from "@isthmus/datapath/testing";
import type { HostPort } from "@isthmus/protocol";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { type Half, kindsOfSockets, serve, twoDaemons } from "./two-daemons.ts";

const SUBSCRIPTION = Buffer.alloc(16, 5).toString("base64url");

const sha = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");

/** A UDP service on loopback that answers each datagram. */
async function answering(
  answer: (message: Buffer) => Buffer | string,
  port = 0,
): Promise<HostPort & { close(): void }> {
  const socket = createSocket("udp4");
  socket.on("message", (message, source) => socket.send(answer(message), source.port, source.address));
  socket.bind(port, "127.0.0.1");
  await once(socket, "listening");
  let close = (): void => {
    close = () => undefined;
    socket.close();
  };
  onTestFinished(() => close());
  return { host: "127.0.0.1", port: socket.address().port, close: () => close() };
}

/** A flow that this half opens, and what comes back on it. */
function openFlow(half: Half, opener: "subscriber" | "provider" = "subscriber") {
  const heard: Buffer[] = [];
  const { session, flow } = half.link.openFlow(
    { subscription: SUBSCRIPTION, channel: "udp", opener },
    { deliver: (payload) => heard.push(Buffer.from(payload)), close: () => undefined },
  )!;
  return { heard, send: (payload: Buffer) => session.send(flow, payload), close: () => half.link.close() };
}

describe.each(kindsOfSockets)("datagrams over sockets of $name", (sockets) => {
  async function setUp(reachable: "a" | "b"): Promise<{ a: Half; b: Half }> {
    const { a, b } = await twoDaemons(reachable, { sockets });
    onTestFinished(() => [a, b].forEach((half) => void half.close()));
    return { a, b };
  }

  describe.each(["a", "b"] as const)("when %s is reachable (b provides)", (reachable) => {
    it("pass in any size both ways", async () => {
      const { a, b } = await setUp(reachable);
      b.target = await answering((message) => message);
      const { heard, send } = openFlow(a);
      const sizes = [0, 1, 500, 1171, 1172, 1423, 1424, 9000];
      const sent = sizes.map((size) => randomBytes(size));
      // Before there is a path they wait, none is lost.
      for (const payload of sent) send(payload);
      await vi.waitFor(() => expect(heard.length).toBe(sizes.length), { timeout: 5000 });
      for (const size of [32_768, 65_507]) {
        sent.push(randomBytes(size));
        send(sent.at(-1)!);
        await vi.waitFor(() => expect(heard.length).toBe(sent.length), { timeout: 5000 });
      }
      expect(new Set(heard.map(sha))).toEqual(new Set(sent.map(sha)));
      expect(a.link.udpPath?.rendezvous.at).toBe("direct");
      expect(b.asked.filter(({ proto }) => proto === "udp").length).toBe(1);
    });

    it("of many flows at once come each once, in their order, and to their own flow", async () => {
      const { a, b } = await setUp(reachable);
      b.target = await answering((message) => `re ${message}`);
      const flows = [0, 1, 2].map(() => openFlow(a));
      const [rounds, burst] = [20, 20];
      for (let round = 0; round < rounds; round++) {
        for (let n = 0; n < burst; n++) {
          for (const [index, { send }] of flows.entries()) send(Buffer.from(`${index}: ${round * burst + n}`));
        }
        // The burst fits what waits for a path and what a socket has room for: nothing may be lost.
        const far = (round + 1) * burst;
        await vi.waitFor(() => expect(flows.map(({ heard }) => heard.length)).toEqual([far, far, far]), {
          timeout: 10_000,
          interval: 2,
        });
      }
      for (const [index, { heard }] of flows.entries()) {
        const wanted = Array.from({ length: rounds * burst }, (_, n) => `re ${index}: ${n}`);
        expect(heard.map(String)).toEqual(wanted);
      }
    });

    it("pass again when a service that was away is back at its port", async () => {
      const { a, b } = await setUp(reachable);
      const service = await answering((message) => message);
      b.target = { host: service.host, port: service.port };
      const { heard, send } = openFlow(a);
      send(Buffer.from("there"));
      await vi.waitFor(() => expect(heard.map(String)).toEqual(["there"]), { timeout: 5000 });
      service.close();
      for (let n = 0; n < 5; n++) send(Buffer.from("nobody hears this"));
      // What is behind them comes after them: the closed port has answered by then.
      await vi.waitFor(() => expect(a.link.udpPath?.health.state).toBe("up"));
      await answering((message) => message, service.port);
      await vi.waitFor(
        () => {
          send(Buffer.from("back"));
          expect(heard.map(String)).toContain("back");
        },
        { timeout: 5000, interval: 50 },
      );
    });

    it("stop when the flow's link is closed, on both sides", async () => {
      const { a, b } = await setUp(reachable);
      let asked = 0;
      b.target = await answering((message) => {
        asked++;
        return message;
      });
      const { heard, send, close } = openFlow(a);
      send(Buffer.from("one"));
      await vi.waitFor(() => expect(heard).toHaveLength(1), { timeout: 5000 });
      close();
      send(Buffer.from("two"));
      const other = openFlow(b, "provider");
      other.send(Buffer.from("three"));
      b.link.close();
      await new Promise((resolve) => setTimeout(resolve, 50));
      expect({ asked, heard: heard.map(String), other: other.heard }).toEqual({ asked: 1, heard: ["one"], other: [] });
    });
  });

  it("pass on a channel that the provider's side opens", async () => {
    const { a, b } = await setUp("a");
    a.target = await answering((message) => `re: ${message}`);
    const { heard, send } = openFlow(b, "provider");
    send(Buffer.from("frame 1"));
    await vi.waitFor(() => expect(heard.map(String)).toEqual(["re: frame 1"]), { timeout: 5000 });
    expect(a.asked.at(-1)).toMatchObject({ channel: "udp", opener: "provider", proto: "udp" });
  });

  it("with a leg header come to nothing from port 0, however right it is", async ({ skip }) => {
    skip(cannotForge !== undefined, cannotForge);
    const { a, b } = await setUp("b");
    // What reaches b over TCP alone: the datagrams to the same port come to this test instead.
    const { server, address } = await serve((socket) => {
      const onward = connect({ port: b.port, host: "127.0.0.1", allowHalfOpen: true });
      onward.on("error", () => socket.destroy());
      socket.pipe(onward).pipe(socket);
      onTestFinished(() => void onward.destroy());
    });
    onTestFinished(() => void server.close());
    const eavesdropper: UdpSocket = createSocket("udp4");
    eavesdropper.bind(address.port, "127.0.0.1");
    await once(eavesdropper, "listening");
    onTestFinished(() => void eavesdropper.close());
    b.link.setDirect(false, []);
    a.link.setDirect(true, [address]);
    b.target = { host: "127.0.0.1", port: 9 };
    await vi.waitFor(() => expect(a.link.direct?.isUp).toBe(true));
    openFlow(a).send(Buffer.from("hello"));
    const [header] = (await once(eavesdropper, "message")) as [Buffer];
    await sendFromPortZero("127.0.0.1", { host: "127.0.0.1", port: b.port }, header);
    await vi.waitFor(() => expect(b.counted.get("leg-refused")).toBe(1));
    expect(b.link.udpPath).toBeUndefined();
  });
});
