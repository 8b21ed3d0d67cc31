import { addHealthRoutes, Metrics, type ReadyCheck } from "@isthmus/service";
import { fastify } from "fastify";
import { expect, it, onTestFinished } from "vitest";

function start(ready: ReadyCheck) {
  const app = fastify();
  onTestFinished(() => app.close());
  const metrics = new Metrics("isb");
  metrics.counter("logins_total", "Logins.").inc(3);
  addHealthRoutes(app, { metrics, ready });
  return app;
}

it("/healthz says that the process runs, ready or not", async () => {
  const answer = await start(() => "no store").inject("/healthz");
  expect([answer.statusCode, answer.json()]).toEqual([200, { status: "ok" }]);
});

it("/readyz says 200, or 503 and why, anew at each call", async () => {
  let problem: string | undefined = "store unavailable";
  const app = start(async () => problem);
  const before = await app.inject("/readyz");
  expect([before.statusCode, before.json()]).toEqual([503, { status: "not ready", problem: "store unavailable" }]);
  problem = undefined;
  const after = await app.inject("/readyz");
  expect([after.statusCode, after.json()]).toEqual([200, { status: "ready" }]);
});

it("a check that breaks is not ready", async () => {
  const app = start(() => Promise.reject(new Error("connection lost")));
  const answer = await app.inject("/readyz");
  expect(answer.statusCode).toBeGreaterThanOrEqual(500);
});

it("/metrics is what Prometheus reads", async () => {
  const answer = await start(() => undefined).inject("/metrics");
  expect(answer.headers["content-type"]).toMatch(/^text\/plain; version=0\.0\.4/);
  expect(answer.body).toContain("isthmus_isb_logins_total 3");
});
