import {
  CONTROL_FRAME_MAX_BYTES,
  encodeInvite,
  HELD_PER_MESSAGE,
  isbDaemon,
  isbIst,
  LIMITS,
  loginVocabulary,
  requestFrame,
} from "@isthmus/protocol";
import { expect, it } from "vitest";

const KEY = "A".repeat(43);
const NAME = "n".repeat(20);

it("a full declaration of ordinary services and subscriptions fits a frame", () => {
  const payload = {
    iss: KEY,
    sub: "A".repeat(22),
    svc: NAME,
    prv: { user: NAME, key: KEY },
    sbr: { user: NAME, key: KEY },
    iat: 1_800_000_000,
    exp: 1_800_086_400,
  };
  const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const grant = `${part({ alg: "EdDSA", typ: "isthmus-grant+jwt" })}.${part(payload)}.${"A".repeat(86)}`;
  const declaration = {
    services: Array.from({ length: LIMITS.servicesPerDevice }, (_, i) => ({
      name: `${NAME}${i}`,
      channels: [
        { id: "main", proto: "tcp" as const },
        { id: "media", proto: "udp" as const },
      ],
      description: "d".repeat(60),
      allow: { users: Array(3).fill(NAME) },
    })),
    subscriptions: Array.from({ length: LIMITS.subscriptionsPerDevice }, () => ({
      subscription: "A".repeat(22),
      grant,
      allocation: { ist: KEY, id: "0".repeat(16) },
    })),
  };
  isbDaemon.toServer.requests.declare.request.parse(declaration);
  expect(Buffer.byteLength(requestFrame("declare", "A".repeat(22), declaration))).toBeLessThan(
    LIMITS.sessionFrameBytes,
  );
});

it("a full page of what an IST holds fits a frame", () => {
  const sides = [`A${KEY.slice(1)}`, `B${KEY.slice(1)}`];
  const hold = { allocations: Array(HELD_PER_MESSAGE).fill({ allocation: "0".repeat(16), sides }), last: false };
  isbIst.toServer.events.hold.parse(hold);
  expect(JSON.stringify({ t: "hold", ...hold }).length).toBeLessThan(LIMITS.sessionFrameBytes);
});

it("a page of the directory fits a frame, with everything in it at its longest", () => {
  const entry = {
    service: "s".repeat(63),
    user: "u".repeat(63),
    device: "d".repeat(63),
    fingerprint: "f".repeat(32),
    channels: Array.from({ length: LIMITS.channelsPerService }, (_, i) => ({
      id: `${i}${"c".repeat(62)}`,
      proto: "tcp",
      opener: "subscriber",
    })),
    behaviour: "b".repeat(63),
    description: "€".repeat(200),
    present: true,
  };
  const page = { entries: Array(LIMITS.directoryPage).fill(entry), cursor: "x".repeat(200) };
  isbDaemon.toServer.requests.list.reply.parse(page);
  expect(Buffer.byteLength(JSON.stringify({ t: "ok", re: "A".repeat(22), ...page }))).toBeLessThan(
    LIMITS.sessionFrameBytes,
  );
});

it("a login fits what may be sent before it, with everything in it at its longest", () => {
  const login = {
    version: 1,
    role: "daemon" as const,
    key: KEY,
    nonce: KEY,
    origin: `wss://${Array(4).fill("a".repeat(61)).join(".")}:65535`,
    boot: "0".repeat(16),
    signature: `${"A".repeat(86)}`,
    invite: "A".repeat(22),
    device: "d".repeat(63),
  };
  loginVocabulary.toServer.requests.login.request.parse(login);
  expect(requestFrame("login", "A".repeat(22), login).length).toBeLessThan(LIMITS.loginFrameBytes);
});

it("the largest control frame fits its length of 16 bits on a direct connection", () => {
  expect(CONTROL_FRAME_MAX_BYTES).toBeLessThan(2 ** 16);
});

it("an invite with everything in it is a line that people can paste", () => {
  const text = encodeInvite({
    v: 1,
    role: "daemon",
    addresses: ["isb.example.org:443"],
    secure: true,
    isb: "a".repeat(32),
    certificate: "0".repeat(64),
    token: "A".repeat(22),
    user: "alice",
  });
  expect(text.length).toBeLessThan(400);
});
