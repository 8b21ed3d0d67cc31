import { createLogger, formatForPeople, type LogLevel, silentLogger } from "@isthmus/service";
import { describe, expect, it } from "vitest";

function start(level: LogLevel = "info") {
  const lines: string[] = [];
  const logger = createLogger({ name: "isb", level, write: (line) => lines.push(line) });
  const records = (): Record<string, unknown>[] => lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  return { logger, lines, records };
}

describe("a log line", () => {
  it("is one JSON object with time, level by name, program, message and fields", () => {
    const { logger, lines, records } = start();
    logger.info({ session: "s1", n: 1 }, "session up");
    expect(lines[0]).toMatch(/^\{.*\}\n$/);
    expect(records()).toEqual([
      {
        time: expect.stringMatching(/^\d{4}-.*Z$/),
        level: "info",
        name: "isb",
        msg: "session up",
        session: "s1",
        n: 1,
      },
    ]);
  });

  it("below the level is not written", () => {
    const { logger, records } = start("warn");
    logger.info({}, "no");
    logger.warn({}, "yes");
    logger.child({ session: "s1" }).debug("no");
    expect(records().map(({ msg }) => msg)).toEqual(["yes"]);
  });

  it("of a child carries its fields", () => {
    const { logger, records } = start();
    logger.child({ session: "s1" }).child({ splice: 2 }).warn({ code: "reset" }, "ended");
    expect(records()[0]).toMatchObject({ session: "s1", splice: 2, code: "reset" });
  });

  it("of an error has its type, message and stack", () => {
    const { logger, records } = start();
    logger.error({ err: new TypeError("broken") }, "login failed");
    logger.error(new TypeError("alone"));
    expect(records()).toMatchObject([
      { err: { type: "TypeError", message: "broken", stack: expect.stringContaining("logger.test") } },
      { err: { message: "alone" }, msg: "alone" },
    ]);
  });

  it("is made of whatever it is given", () => {
    const { logger, records } = start();
    const circle: Record<string, unknown> = { n: 1 };
    circle.self = circle;
    logger.info({ circle, bytes: Buffer.from("a"), when: new Date(0), list: [1, null, undefined], nothing: null }, "x");
    expect(records()[0]).toMatchObject({ when: "1970-01-01T00:00:00.000Z", list: [1, null, null], nothing: null });
  });
});

describe("secrets", () => {
  const SECRETS = ["invite", "token", "ticket", "password", "secret", "privateKey", "authorization", "signature"];

  it.each(SECRETS)("in a field called %s never reach the log, wherever it stands", (field) => {
    const { logger, lines } = start();
    const secret = { [field]: "hunter2" };
    logger.info(secret, "at the top");
    logger.info({ a: { b: { c: { d: secret } } } }, "deep");
    logger.info({ list: [{ inner: [secret] }] }, "in lists");
    logger.info({ [field]: { nested: "hunter2" } }, "as an object");
    logger.child(secret).info("in a child");
    logger.child({ a: secret }).child({ b: 1 }).info("in a child's child");
    logger.error({ err: Object.assign(new Error("x"), secret, { request: secret }) }, "in an error");
    class Login {
      declare field: string;
      constructor() {
        Object.assign(this, secret);
      }
    }
    logger.info({ login: new Login() }, "in an instance");
    expect(lines).toHaveLength(8);
    for (const line of lines) expect(line).not.toContain("hunter2");
    for (const line of lines) expect(line).toContain("[redacted]");
  });

  it("deeper than anybody looks are cut off with what holds them", () => {
    const { logger, lines } = start();
    let deep: object = { token: "hunter2" };
    for (let i = 0; i < 50; i++) deep = { deep };
    logger.info(deep, "x");
    expect(lines[0]).not.toContain("hunter2");
  });

  it("are cut out of the line, not out of the object that carries them", () => {
    const { logger } = start();
    const login = { token: "hunter2", inner: { ticket: "t" } };
    logger.info({ login }, "x");
    expect(login).toEqual({ token: "hunter2", inner: { ticket: "t" } });
  });
});

it("a silent logger writes nothing and makes children", () => {
  const logger = silentLogger();
  logger.fatal({}, "nobody hears");
  logger.child({ a: 1 }).fatal("nobody hears");
});

describe("for people, a line", () => {
  it.each([
    [
      { level: "info", time: "2026-01-02T12:00:01.500Z", name: "isb", msg: "listening", origin: "wss://x:1", n: 3 },
      "12:00:01 info  isb: listening origin=wss://x:1 n=3\n",
    ],
    [
      { level: "error", time: "2026-01-02T12:00:01.500Z", name: "isb", msg: "failed", err: { message: "no room" } },
      "12:00:01 error isb: failed (no room)\n",
    ],
    [{ level: "warn", name: "isb", msg: "x", list: ["a"], on: true }, 'warn  isb: x list=["a"] on=true\n'],
  ])("%j is words", (record, words) => {
    expect(formatForPeople(`${JSON.stringify(record)}\n`)).toBe(words);
  });

  it.each(["plain words\n", "", "null\n", "7\n", '"text"\n', "{ cut"])(
    "that is not ours passes unchanged: %j",
    (line) => {
      expect(formatForPeople(line)).toBe(line);
    },
  );

  it("cannot steer the terminal with what a peer said", () => {
    const record = { level: "info", name: "isb", msg: "refused\u001b[2J", user: "a\r\nfake line\u009b1m" };
    expect(formatForPeople(JSON.stringify(record))).toBe("info  isb: refused?[2J user=a??fake line?1m\n");
  });
});
