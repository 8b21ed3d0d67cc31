import { PortmapError } from "@isthmus/portmap";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { natPmpAddressRequest, natPmpMapRequest, parseNatPmpAnswer } from "../src/port-control/nat-pmp-packet.ts";
import { parsePcpAnswer, pcpAnnounceRequest, pcpMapRequest } from "../src/port-control/pcp-packet.ts";
import { printable } from "../src/printable.ts";
import { parseDefaultGateway } from "../src/route.ts";
import { parseDescription } from "../src/upnp/description.ts";
import { parseSoapAnswer, soapCall } from "../src/upnp/soap.ts";
import { checkedLocation, parseSsdpMessage } from "../src/upnp/ssdp-message.ts";
import { child, childText, escapeXml, parseXml } from "../src/upnp/xml.ts";

const LOCATION = new URL("http://192.168.1.1:5000/rootDesc.xml");
const anyText = fc.string({ unit: "binary", maxLength: 200 });
const anyBytes = fc.uint8Array({ maxLength: 1200 }).map((bytes) => Buffer.from(bytes));

/** The value, or the parser's own error; anything else fails the test. */
function orError<T>(parse: () => T): T | undefined {
  try {
    return parse();
  } catch (error) {
    expect(error).toBeInstanceOf(PortmapError);
    return undefined;
  }
}

/** A text with pieces put in, taken out and doubled. */
function mutations(text: string): fc.Arbitrary<string> {
  const piece = fc.oneof(
    anyText,
    fc.constantFrom("<", ">", "&", "]]>", "<![CDATA[", "<!--", "<a>", "</", "\0", '"', "&#0;"),
  );
  return fc
    .array(fc.tuple(fc.nat(text.length), fc.nat(20), piece), { minLength: 1, maxLength: 6 })
    .map((edits) => edits.reduce((now, [at, cut, put]) => now.slice(0, at) + put + now.slice(at + cut), text));
}

describe("XML", () => {
  const normalised = (text: string) =>
    text.replace(/[^\t\n\r\u{20}-\u{D7FF}\u{E000}-\u{FFFD}\u{10000}-\u{10FFFF}]/gu, "").replace(/\r\n?/g, "\n");

  it("any text comes back out of its escaped form, without what XML cannot hold", () => {
    fc.assert(
      fc.property(anyText, (text) => {
        const [answer] = [parseXml(`<a><b>${escapeXml(text)}</b></a>`)];
        expect(child(child(answer, "a"), "b")!.text).toBe(normalised(text));
      }),
    );
  });

  it("any argument stays one in a call", () => {
    fc.assert(
      fc.property(anyText, anyText, (type, value) => {
        const call = child(
          child(
            child(
              parseXml(
                soapCall(type, "Do", [
                  ["NewA", value],
                  ["NewB", 7],
                ]),
              ),
              "Envelope",
            ),
            "Body",
          ),
          "Do",
        );
        expect([...call!.children.keys()].filter((name) => name !== "#text")).toEqual(["NewA", "NewB"]);
        expect(child(call, "NewA")!.text).toBe(normalised(value));
      }),
    );
  });

  it.each([
    ['<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'],
    ["<!doctype html><html></html>"],
    ["<a><b></a></b>"],
    ["<a>"],
    ["no XML"],
    [""],
    ["<a>".repeat(30) + "</a>".repeat(30)],
    ["<a b=></a>"],
    [`<a>${"<b/>".repeat(4000)}</a>`],
  ])("%.40s is refused", (text) => {
    expect(() => parseXml(text)).toThrow(expect.objectContaining({ code: "malformed" }));
  });

  it("knows five entities and numbers, and leaves the rest as it is written", () => {
    const text = "&lt;&gt;&amp;&quot;&apos;&#65;&#x42;&nbsp;&#xD800;&#99999999;&amp;lt;";
    expect(child(parseXml(`<a>${text}</a>`), "a")!.text).toBe("<>&\"'AB&nbsp;&#xD800;&#99999999;&lt;");
  });

  it.each(["__proto__", "constructor", "toString", "hasOwnProperty"])(
    "an element called %s is one like others",
    (name) => {
      const parsed = orError(() => parseXml(`<a><${name}>1</${name}></a>`));
      if (parsed) expect(Object.getPrototypeOf(parsed)).toBe(Object.prototype);
      expect(({} as Record<string, unknown>).polluted).toBeUndefined();
    },
  );

  it("no text at all brings the parser down", () => {
    const start = soapCall("urn:a", "Do", [["NewA", "1"]]);
    fc.assert(fc.property(fc.oneof(anyText, mutations(start)), (text) => void orError(() => parseXml(text))));
  });
});

describe("SOAP", () => {
  const answer = (body: string) =>
    `<?xml version="1.0"?><x:Envelope xmlns:x="http://schemas.xmlsoap.org/soap/envelope/"><x:Body>${body}</x:Body></x:Envelope>`;
  const fault = (inner: string) => answer(`<x:Fault><detail><UPnPError>${inner}</UPnPError></detail></x:Fault>`);

  it("any prefix of names will do", () => {
    const parsed = parseSoapAnswer(answer("<m:DoResponse><NewA> 5 </NewA></m:DoResponse>"), "Do");
    expect(childText(parsed, "NewA")).toBe("5");
  });

  it.each([
    [fault("<errorCode> 718 </errorCode><errorDescription>x</errorDescription>"), { code: "denied", gatewayCode: 718 }],
    [fault("<errorCode>7180</errorCode>"), { code: "malformed" }],
    [fault("<errorCode>-1</errorCode>"), { code: "malformed" }],
    [fault(""), { code: "malformed" }],
    [answer("<m:OtherResponse/>"), { code: "malformed" }],
    [answer(""), { code: "malformed" }],
    ["<html><body>not found</body></html>", { code: "malformed" }],
  ])("%#", (text, error) => {
    expect(() => parseSoapAnswer(text, "Do")).toThrow(expect.objectContaining(error));
  });

  it("a gateway's own words are cut and cleaned before they are shown", () => {
    const text = fault(
      `<errorCode>899</errorCode><errorDescription>a\n\u001b[31mb${"c".repeat(500)}</errorDescription>`,
    );
    expect(() => parseSoapAnswer(text.replace("\u001b", "\u0085"), "Do")).toThrow(
      /^the gateway answered 899 \(a \[31mbc{90,95}\)$/,
    );
  });

  it("no answer brings the parser down", () => {
    const start = fault("<errorCode>718</errorCode>");
    fc.assert(
      fc.property(fc.oneof(anyText, mutations(start)), (text) => void orError(() => parseSoapAnswer(text, "Do"))),
    );
  });
});

describe("a device's description", () => {
  const service = (type: string, control: string) =>
    `<service><serviceType>urn:schemas-upnp-org:service:${type}</serviceType><controlURL>${control}</controlURL></service>`;
  const root = (services: string, base = "") =>
    `<root>${base}<device><friendlyName>R</friendlyName><serviceList>${services}</serviceList></device></root>`;
  const urls = (text: string) => parseDescription(text, LOCATION).services.map(({ controlUrl }) => controlUrl.href);

  it("the newest service comes first, PPP last", () => {
    const all = ["WANPPPConnection:1", "WANIPConnection:1", "WANIPConnection:2", "WANCommonInterfaceConfig:1"];
    const { services, name } = parseDescription(root(all.map((type) => service(type, `/${type}`)).join("")), LOCATION);
    expect(services.map(({ type, version }) => [type.split(":").slice(3).join(":"), version])).toEqual([
      ["WANIPConnection:2", 2],
      ["WANIPConnection:1", 1],
      ["WANPPPConnection:1", 1],
    ]);
    expect(name).toBe("R");
  });

  it.each([
    ["/ctl", "", "http://192.168.1.1:5000/ctl"],
    ["ctl", "", "http://192.168.1.1:5000/ctl"],
    ["http://192.168.1.1:80/ctl", "", "http://192.168.1.1/ctl"],
    ["ctl", "<URLBase>http://192.168.1.1:6000/a/</URLBase>", "http://192.168.1.1:6000/a/ctl"],
    ["ctl", "<URLBase>http://10.0.0.1:6000/a/</URLBase>", "http://192.168.1.1:5000/ctl"],
    ["ctl", "<URLBase>nonsense</URLBase>", "http://192.168.1.1:5000/ctl"],
  ])("control at '%s' with base '%s'", (control, base, url) => {
    expect(urls(root(service("WANIPConnection:1", control), base))).toEqual([url]);
  });

  it.each([
    "http://192.168.1.2/ctl",
    "https://192.168.1.1/ctl",
    "//evil/ctl",
    "file:///etc/passwd",
    "http://[::1]/",
    "",
  ])("control at '%s' is not asked", (control) => {
    expect(() => urls(root(service("WANIPConnection:1", control)))).toThrow(
      expect.objectContaining({ code: "unsupported" }),
    );
  });

  it("no description brings the parser down, or leads to another host", () => {
    const start = root(
      service("WANIPConnection:1", "http://192.168.1.1/ctl"),
      "<URLBase>http://192.168.1.1/</URLBase>",
    );
    fc.assert(
      fc.property(fc.oneof(anyText, mutations(start)), (text) => {
        const parsed = orError(() => parseDescription(text, LOCATION));
        for (const { controlUrl } of parsed?.services ?? []) expect(controlUrl.hostname).toBe("192.168.1.1");
      }),
    );
  });
});

describe("SSDP", () => {
  const NT = "urn:schemas-upnp-org:device:InternetGatewayDevice:1";
  const notify = (nts: string, more = "") =>
    Buffer.from(
      `NOTIFY * HTTP/1.1\r\nHost:239.255.255.250:1900\r\nnts: ${nts}\r\nNT:${NT}\r\nUSN: uuid:1::${NT}\r\n` +
        `LOCATION: http://192.168.1.1:5000/d\r\nBOOTID.UPNP.ORG: 7\r\n${more}\r\n`,
    );

  it("reads announcements and answers", () => {
    const about = { type: NT, device: "uuid:1", location: "http://192.168.1.1:5000/d", bootId: 7 };
    expect(parseSsdpMessage(notify("ssdp:alive"))).toEqual({ kind: "alive", ...about });
    expect(parseSsdpMessage(notify("ssdp:byebye"))).toEqual({ kind: "byebye", ...about });
    expect(parseSsdpMessage(notify("ssdp:update", "NEXTBOOTID.UPNP.ORG: 8\r\n"))).toEqual({
      kind: "update",
      nextBootId: 8,
      ...about,
    });
    expect(parseSsdpMessage(Buffer.from(`HTTP/1.1 200 OK\r\nST:${NT}\r\nUSN:uuid:1\r\n\r\n`))).toEqual({
      kind: "answer",
      type: NT,
      device: "uuid:1",
    });
  });

  it.each([
    notify("ssdp:hello"),
    Buffer.from(`HTTP/1.1 404 Not Found\r\nST:${NT}\r\nUSN:uuid:1\r\n\r\n`),
    Buffer.from(`M-SEARCH * HTTP/1.1\r\nST:${NT}\r\nUSN:uuid:1\r\n\r\n`),
    Buffer.from(`HTTP/1.1 200 OK\r\nST:${NT}\r\n\r\n`),
    notify("ssdp:alive", `X: ${"y".repeat(5000)}\r\n`),
  ])("passes over %#", (datagram) => {
    expect(parseSsdpMessage(datagram)).toBeUndefined();
  });

  it.each([
    ["http://192.168.1.1:5000/d", true],
    ["http://192.168.1.1/d", true],
    ["http://192.168.1.2:5000/d", false],
    ["http://192.168.1.1@10.0.0.1/d", false],
    ["http://user:pw@192.168.1.1/d", false],
    ["https://192.168.1.1/d", false],
    ["http://router/d", false],
    ["http://3232235777/d", true],
    ["file:///etc/passwd", false],
    ["nonsense", false],
  ])("location %s from 192.168.1.1: asked %s", (location, isAsked) => {
    expect(checkedLocation(location, "192.168.1.1") !== undefined).toBe(isAsked);
  });

  it("no datagram brings the parser down, and no location leads to another host", () => {
    const start = notify("ssdp:alive").toString();
    fc.assert(
      fc.property(
        fc.oneof(
          anyBytes,
          mutations(start).map((text) => Buffer.from(text)),
        ),
        (datagram) => {
          const message = parseSsdpMessage(datagram);
          const url = message?.location === undefined ? undefined : checkedLocation(message.location, "192.168.1.1");
          if (url) expect(url.hostname).toBe("192.168.1.1");
        },
      ),
    );
  });
});

describe("NAT-PMP", () => {
  it("asks in RFC 6886's bytes", () => {
    expect(natPmpAddressRequest().toString("hex")).toBe("0000");
    const request = { internalPort: 0x1234, externalPort: 0x5678, lifetimeSeconds: 7200 };
    expect(natPmpMapRequest({ protocol: "udp", ...request }).toString("hex")).toBe("000100001234567800001c20");
    expect(natPmpMapRequest({ protocol: "tcp", ...request }).toString("hex")).toBe("000200001234567800001c20");
  });

  it("reads RFC 6886's bytes", () => {
    expect(parseNatPmpAnswer(Buffer.from("008000000000000a0b000001", "hex"))).toEqual({
      result: 0,
      epoch: 10,
      about: { kind: "address", address: "11.0.0.1" },
    });
    expect(parseNatPmpAnswer(Buffer.from("008200000000000a1234567800001c20", "hex"))).toEqual({
      result: 0,
      epoch: 10,
      about: { kind: "map", protocol: "tcp", internalPort: 0x1234, externalPort: 0x5678, lifetimeSeconds: 7200 },
    });
    expect(parseNatPmpAnswer(Buffer.from("008200020000000a", "hex"))).toEqual({
      result: 2,
      epoch: 10,
      about: { kind: "refusal" },
    });
  });

  it("takes nothing but whole answers", () => {
    fc.assert(
      fc.property(fc.oneof(anyBytes, shortened("008200000000000a1234567800001c20")), (packet) => {
        const answer = orError(() => parseNatPmpAnswer(packet));
        if (answer) expect(packet[0]).toBe(0);
        if (answer?.result === 0) expect([12, 16]).toContain(packet.length);
      }),
    );
  });
});

describe("PCP", () => {
  const NONCE = Buffer.from("000102030405060708090a0b", "hex");
  const CLIENT = `${"00".repeat(10)}ffffc0a80102`;
  const MAP = `0201${"0000"}00000e10${CLIENT}000102030405060708090a0b060000001f901f91${"00".repeat(10)}ffff00000000`;
  const ANSWER = `02810000000001f40000000a${"00".repeat(12)}000102030405060708090a0b060000001f901f91${"00".repeat(10)}ffff0b000001`;

  it("asks in RFC 6887's bytes", () => {
    expect(pcpAnnounceRequest("192.168.1.2").toString("hex")).toBe(`0200000000000000${CLIENT}`);
    const request = {
      client: "192.168.1.2",
      nonce: NONCE,
      protocol: "tcp",
      internalPort: 8080,
      externalPort: 8081,
      lifetimeSeconds: 3600,
    } as const;
    expect(pcpMapRequest({ ...request, preferFailure: false }).toString("hex")).toBe(MAP);
    expect(pcpMapRequest({ ...request, preferFailure: true }).toString("hex")).toBe(`${MAP}02000000`);
  });

  it("reads RFC 6887's bytes", () => {
    const about = { lifetimeSeconds: 500, epoch: 10 };
    expect(parsePcpAnswer(Buffer.from(ANSWER, "hex"))).toEqual({
      opcode: "map",
      result: 0,
      ...about,
      map: { nonce: NONCE, protocolNumber: 6, internalPort: 8080, externalPort: 8081, externalAddress: "11.0.0.1" },
    });
    expect(parsePcpAnswer(Buffer.from(`02800000${ANSWER.slice(8, 48)}`, "hex"))).toEqual({
      opcode: "announce",
      result: 0,
      ...about,
    });
    const refusal = parsePcpAnswer(Buffer.from(`02810002${ANSWER.slice(8, 48)}`, "hex"));
    expect(refusal).toEqual({ opcode: "map", result: 2, ...about });
  });

  it.each([
    ["an IPv6 address outside is none for us", ANSWER.replace("ffff0b000001", "00000b000001"), undefined],
    ["NAT-PMP's answer to PCP", "0081000100000000", "unsupported"],
    ["a success without a mapping", `02810000${ANSWER.slice(8, 48)}`, "malformed"],
    ["a length that is no multiple of four", `${ANSWER}00`, "malformed"],
    ["a request", MAP, "malformed"],
    ["another version", `01${ANSWER.slice(2)}`, "malformed"],
    ["too much", ANSWER + "00".repeat(1044), "malformed"],
  ])("%s", (_, hex, code) => {
    const parse = () => parsePcpAnswer(Buffer.from(hex, "hex"));
    if (code === undefined) expect(parse().map!.externalAddress).toBeUndefined();
    else expect(parse).toThrow(expect.objectContaining({ code }));
  });

  it("takes nothing but whole answers", () => {
    fc.assert(
      fc.property(fc.oneof(anyBytes, shortened(ANSWER)), (packet) => {
        const answer = orError(() => parsePcpAnswer(packet));
        if (answer) expect([packet[0], packet.length % 4]).toEqual([2, 0]);
        if (answer?.map) expect(packet.length).toBeGreaterThanOrEqual(60);
      }),
    );
  });
});

describe("the default route", () => {
  const HEADER = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
  const line = (destination: string, gateway: string, flags: string, metric: number, mask: string) =>
    `eth0\t${destination}\t${gateway}\t${flags}\t0\t0\t${metric}\t${mask}\t0\t0\t0\n`;

  it("is the one with the least metric that has a router and is up", () => {
    const text =
      HEADER +
      line("00000000", "0101A8C0", "0003", 100, "00000000") +
      line("00000000", "0201A8C0", "0003", 50, "00000000") +
      line("00000000", "0301A8C0", "0002", 10, "00000000") +
      line("00000000", "00000000", "0001", 5, "00000000") +
      line("00000000", "0401A8C0", "0003", 1, "00000080") +
      line("0001A8C0", "00000000", "0001", 0, "00FFFFFF");
    expect(parseDefaultGateway(text)).toBe("192.168.1.2");
    expect(parseDefaultGateway(HEADER)).toBeUndefined();
    expect(parseDefaultGateway("")).toBeUndefined();
  });

  it("of no text at all is more than an address or nothing", () => {
    const start = HEADER + line("00000000", "0101A8C0", "0003", 100, "00000000");
    fc.assert(
      fc.property(fc.oneof(anyText, mutations(start)), (text) => {
        expect(parseDefaultGateway(text) ?? "0.0.0.0").toMatch(/^\d{1,3}(\.\d{1,3}){3}$/);
      }),
    );
  });
});

it("text from the network is one short line of printable characters", () => {
  fc.assert(
    fc.property(anyText, fc.nat(50), (text, longest) => {
      const shown = printable(text, longest);
      expect([...shown].length).toBeLessThanOrEqual(longest);
      expect(shown).not.toMatch(/[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/u);
    }),
  );
});

function shortened(hex: string): fc.Arbitrary<Buffer> {
  const whole = Buffer.from(hex, "hex");
  return fc
    .tuple(fc.nat(whole.length), fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255))))
    .map(([length, edits]) => {
      const packet = Buffer.from(whole);
      for (const [at, value] of edits) packet[at] = value;
      return packet.subarray(0, length);
    });
}
