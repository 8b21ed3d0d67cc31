export * from "./aead/index.ts";
