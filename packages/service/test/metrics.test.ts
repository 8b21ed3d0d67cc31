import { Metrics } from "@isthmus/service";
import { describe, expect, it } from "vitest";

describe.each(["isb", "ist", "daemon", "natbinder"] as const)("metrics of %s", (part) => {
  it("carry its name, their help and their labels", async () => {
    const metrics = new Metrics(part);
    const refused = metrics.counter("refused_total", "Logins refused, by reason.", ["code"]);
    metrics.gauge("sessions", "Sessions open.", () => 7);
    metrics.histogram("login_seconds", "Time of a login.", [0.01, 0.1]).observe(0.05);
    refused.inc({ code: "rate-limited" });
    refused.inc({ code: "rate-limited" });
    refused.inc({ code: "bad-signature" });
    const lines = (await metrics.scrape()).split("\n");
    expect(lines).toEqual(
      expect.arrayContaining([
        `# HELP isthmus_${part}_refused_total Logins refused, by reason.`,
        `# TYPE isthmus_${part}_refused_total counter`,
        `isthmus_${part}_refused_total{code="rate-limited"} 2`,
        `isthmus_${part}_sessions 7`,
        `isthmus_${part}_login_seconds_bucket{le="0.1"} 1`,
        `isthmus_${part}_login_seconds_count 1`,
      ]),
    );
    const names = lines.flatMap((line) => /^# TYPE (\S+)/.exec(line)?.[1] ?? []);
    expect(names.every((name) => name.startsWith(`isthmus_${part}_`))).toBe(true);
    expect(metrics.contentType).toMatch(/^text\/plain; version=0\.0\.4/);
  });
});

it("a gauge is read at each scrape, not before", async () => {
  const metrics = new Metrics("isb");
  let reads = 0;
  metrics.gauge("sessions", "Sessions open.", () => ++reads);
  expect(reads).toBe(0);
  await metrics.scrape();
  expect(await metrics.scrape()).toContain("isthmus_isb_sessions 2");
});

it("one value is found by its exact labels", async () => {
  const metrics = new Metrics("ist");
  const ended = metrics.counter("ended_total", "Splices ended.", ["code", "proto"]);
  const plain = metrics.counter("splices_total", "Splices made.");
  ended.inc({ code: "finished", proto: "tcp" }, 3);
  plain.inc(2);
  expect(await metrics.value("ended_total", { proto: "tcp", code: "finished" })).toBe(3);
  expect(await metrics.value("ended_total", { code: "finished" })).toBe(0);
  expect(await metrics.value("ended_total", { code: "reset", proto: "tcp" })).toBe(0);
  expect(await metrics.value("splices_total")).toBe(2);
  expect(await metrics.value("no_such_metric")).toBe(0);
});

it("two processes in one do not mix their metrics", async () => {
  const [isb, ist] = [new Metrics("isb"), new Metrics("ist")];
  isb.counter("events_total", "Events.").inc();
  ist.counter("events_total", "Events.").inc(5);
  expect(await isb.scrape()).not.toContain("isthmus_ist_");
  expect(await ist.value("events_total")).toBe(5);
});

it("the same name twice is an error at start, not a mixture", () => {
  const metrics = new Metrics("isb");
  metrics.counter("events_total", "Events.");
  expect(() => metrics.counter("events_total", "Events.")).toThrow();
});
