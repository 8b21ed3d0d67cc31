import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { ConfigError, loadConfig } from "@isthmus/service";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { emptyFolder } from "./folder.ts";

const schema = z
  .object({
    port: z.int().min(1).max(65_535).default(8080),
    name: z.string().default("isb"),
    secret: z.string().optional(),
    tls_file: z.string().optional(),
    dual_stack: z.boolean().default(true),
    listen: z.array(z.string()).min(1).max(3).default(["127.0.0.1"]),
    limits: z
      .object({ users: z.int().default(10), rate: z.object({ burst: z.int().default(5) }).prefault({}) })
      .prefault({}),
    ists: z.array(z.object({ key: z.string(), weight: z.number().default(1) })).default([]),
    quotas: z.record(z.string(), z.object({ most: z.int() })).default({}),
  })
  .refine(({ name, secret }) => name !== "public" || secret !== undefined, "a public server needs a secret");

function load(sources: { toml?: string; env?: Record<string, string>; flags?: Record<string, unknown> }) {
  const path = join(emptyFolder(), "isb.toml");
  if (sources.toml !== undefined) writeFileSync(path, sources.toml);
  return loadConfig(schema, {
    file: { path, required: false },
    env: { prefix: "ISTHMUS_ISB", values: sources.env ?? {} },
    flags: sources.flags ?? {},
  });
}

function complaint(sources: Parameters<typeof load>[0]): string {
  try {
    load(sources);
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return (error as ConfigError).message;
  }
  throw new Error("the configuration was accepted");
}

describe("a setting", () => {
  it("has its default where nobody sets it", () => {
    expect(load({})).toEqual({
      port: 8080,
      name: "isb",
      dual_stack: true,
      listen: ["127.0.0.1"],
      limits: { users: 10, rate: { burst: 5 } },
      ists: [],
      quotas: {},
    });
  });

  it("is taken from the flags before the environment before the file", () => {
    const toml = "port = 1\nname = 'file'\n[limits]\nusers = 1\nrate = { burst = 1 }";
    const env = { ISTHMUS_ISB_PORT: "2", ISTHMUS_ISB_LIMITS__USERS: "2" };
    expect(load({ toml })).toMatchObject({ port: 1, name: "file", limits: { users: 1, rate: { burst: 1 } } });
    expect(load({ toml, env })).toMatchObject({ port: 2, name: "file", limits: { users: 2, rate: { burst: 1 } } });
    expect(load({ toml, env, flags: { port: 3, name: undefined } })).toMatchObject({
      port: 3,
      name: "file",
      limits: { users: 2, rate: { burst: 1 } },
    });
  });

  it("that is a list is replaced as a whole, not mixed", () => {
    const toml = "listen = ['::1', '127.0.0.1', '10.0.0.1']";
    expect(load({ toml, env: { ISTHMUS_ISB_LISTEN: '["0.0.0.0"]' } }).listen).toEqual(["0.0.0.0"]);
  });

  it("in the environment is read as JSON where it is no text", () => {
    const config = load({
      env: {
        ISTHMUS_ISB_DUAL_STACK: "false",
        ISTHMUS_ISB_LIMITS__RATE__BURST: "7",
        ISTHMUS_ISB_ISTS: '[{"key":"a"},{"key":"b","weight":0.5}]',
        ISTHMUS_ISB_QUOTAS: '{"alice":{"most":3}}',
        ISTHMUS_ISB_NAME: "123",
      },
    });
    expect(config).toMatchObject({
      dual_stack: false,
      limits: { rate: { burst: 7 } },
      ists: [
        { key: "a", weight: 1 },
        { key: "b", weight: 0.5 },
      ],
      quotas: { alice: { most: 3 } },
      name: "123",
    });
  });

  it("that is a secret may stand in a file of its own, without the line break at its end", () => {
    const path = join(emptyFolder(), "secret");
    writeFileSync(path, "hunter2\n");
    expect(load({ env: { ISTHMUS_ISB_SECRET_FILE: path } }).secret).toBe("hunter2");
  });

  it("whose own name ends in _file is not taken for a file that holds a secret", () => {
    expect(load({ env: { ISTHMUS_ISB_TLS_FILE: "/nowhere/cert.pem" } }).tls_file).toBe("/nowhere/cert.pem");
  });

  it("cannot be changed afterwards", () => {
    const config = load({}) as { port: number };
    expect(() => {
      config.port = 1;
    }).toThrow(TypeError);
  });
});

describe("refused, naming key and source, is", () => {
  it.each<[string, Parameters<typeof load>[0], RegExp]>([
    ["an unknown key in the file", { toml: "prot = 1" }, /isb\.toml: unknown key 'prot'$/],
    ["one in a table", { toml: "[limits]\nuser = 1" }, /isb\.toml: unknown key 'limits\.user'$/],
    ["one two tables down", { toml: "[limits.rate]\nbrust = 1" }, /isb\.toml: unknown key 'limits\.rate\.brust'$/],
    ["one in a list", { toml: "[[ists]]\nkey = 'a'\nwheight = 1" }, /isb\.toml: unknown key 'ists\.0\.wheight'$/],
    ["one in a record", { toml: "[quotas.alice]\nmots = 1" }, /isb\.toml: unknown key 'quotas\.alice\.mots'$/],
    ["one called __proto__", { toml: "__proto__ = { port = 1 }" }, /isb\.toml: unknown key '__proto__'$/],
    ["one in the environment", { env: { ISTHMUS_ISB_PROT: "1" } }, /ISTHMUS_ISB_PROT names no setting/],
    ["a nested one there", { env: { ISTHMUS_ISB_LIMITS__USER: "1" } }, /ISTHMUS_ISB_LIMITS__USER names no setting/],
    ["one below a value", { env: { ISTHMUS_ISB_PORT__X: "1" } }, /ISTHMUS_ISB_PORT__X names no setting/],
    ["a prototype's", { env: { ISTHMUS_ISB___PROTO__: "1" } }, /names no setting/],
    ["one in JSON", { env: { ISTHMUS_ISB_LIMITS: '{"user":1}' } }, /environment: unknown key 'limits\.user'/],
    ["one among the flags", { flags: { prot: 1 } }, /flags: unknown key 'prot'/],
    ["a file for no setting", { env: { ISTHMUS_ISB_SECRT_FILE: "/x" } }, /ISTHMUS_ISB_SECRT_FILE names no setting/],
    ["a secret's file that is not there", { env: { ISTHMUS_ISB_SECRET_FILE: "/nowhere" } }, /SECRET_FILE: ENOENT/],
    ["a wrong value in the file", { toml: "port = 0" }, /isb\.toml: port: /],
    ["one in the environment too", { toml: "port = 1", env: { ISTHMUS_ISB_PORT: "x" } }, /^environment: port: /],
    ["one among the flags too", { env: { ISTHMUS_ISB_PORT: "1" }, flags: { port: 0 } }, /^flags: port: /],
    ["a nested wrong value", { toml: "[limits.rate]\nburst = 'x'" }, /isb\.toml: limits\.rate\.burst: /],
    ["a list that is too short", { toml: "listen = []" }, /isb\.toml: listen: /],
    ["a list that is too long", { toml: "listen = ['a', 'b', 'c', 'd']" }, /isb\.toml: listen: /],
    ["a wrong element", { toml: "listen = [1]" }, /isb\.toml: listen\.0: /],
    ["a missing key", { toml: "[[ists]]\nweight = 1" }, /ists\.0\.key: /],
    ["a combination", { flags: { name: "public" } }, /^configuration: a public server needs a secret$/],
    ["a file that is no TOML", { toml: "port = = 1" }, /isb\.toml: /],
  ])("%s", (_, sources, words) => {
    expect(complaint(sources)).toMatch(words);
  });

  it("a file that was asked for and is not there", () => {
    const file = { path: join(emptyFolder(), "nothing.toml"), required: true };
    expect(() => loadConfig(schema, { file })).toThrow(ConfigError);
    expect(loadConfig(schema, { file: { ...file, required: false } }).port).toBe(8080);
  });
});

it("variables of other programs are none of ours", () => {
  expect(load({ env: { ISTHMUS_ISBX: "1", ISTHMUS_IST_PORT: "1", PORT: "1", ISTHMUS_ISB: "1" } }).port).toBe(8080);
});

it("a complaint does not repeat a secret", () => {
  const text = complaint({ env: { ISTHMUS_ISB_PORT: "hunter2" } });
  expect(text).not.toContain("hunter2");
});
