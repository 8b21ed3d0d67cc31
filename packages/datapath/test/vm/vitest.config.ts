import { defineConfig } from "vitest/config";

/**
 * For suites that run where the module is, inside a virtual machine. They take the packages as they were built: there is
 * nothing to compile then, which takes minutes under emulation.
 */
export default defineConfig({
  test: {
    root: import.meta.dirname,
    include: ["*.suite.ts"],
    testTimeout: 180_000,
    hookTimeout: 180_000,
    fileParallelism: false,
    cache: false,
  },
});
