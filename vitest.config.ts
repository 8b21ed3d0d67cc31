import { defineConfig } from "vitest/config";

/**
 * Three suites: `unit` runs on this host alone, `lab` needs root and runs inside test/lab's private namespaces, and so does
 * `vm`, which runs kernel modules in virtual machines. `optional` is like `lab`, with programs that are too large for it.
 */
export default defineConfig({
  resolve: { conditions: ["source"] },
  ssr: { resolve: { conditions: ["source"], externalConditions: ["source"] } },
  test: {
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          include: [
            "packages/*/test/**/*.test.ts",
            "apps/*/test/**/*.test.ts",
            "kernel/*/test/**/*.test.ts",
            "test/{bench,docs,layout,model,vectors}/**/*.test.ts",
          ],
          testTimeout: 20_000,
        },
      },
      {
        extends: true,
        test: {
          name: "vm",
          include: ["test/vm/test/**/*.test.ts", "test/e2e/vm/**/*.test.ts"],
          testTimeout: 300_000,
          hookTimeout: 600_000,
          fileParallelism: false,
        },
      },
      {
        extends: true,
        test: {
          name: "lab",
          include: ["test/lab/test/**/*.test.ts", "test/e2e/test/**/*.test.ts", "packages/*/test/**/*.lab.ts"],
          testTimeout: 120_000,
          hookTimeout: 120_000,
          fileParallelism: false,
        },
      },
      {
        extends: true,
        test: {
          name: "optional",
          include: ["test/e2e/optional/**/*.test.ts"],
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
});
