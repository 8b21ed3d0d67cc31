import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Binding, type BindingOptions, type BindRequest, IdealState, policySchema, StateFile } from "@isthmus/binding";
import { silentLogger } from "@isthmus/service";
import { afterEach } from "vitest";

const LOGGER = silentLogger();

const folders: string[] = [];
const running: Binding[] = [];

afterEach(async () => {
  await Promise.all(running.splice(0).map((binding) => binding.stop()));
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

export function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "isthmus-binding-"));
  folders.push(folder);
  return folder;
}

/** The daemon's body as after a start, with what is on disk in that folder. */
export async function startBinding(
  folder: string,
  options: Pick<BindingOptions, "gateway" | "ownAddresses"> & Partial<BindingOptions>,
): Promise<Binding> {
  const file = options.file ?? new StateFile(folder, LOGGER);
  const binding = new Binding({
    policy: policySchema.parse({}),
    state: new IdealState(file instanceof StateFile ? file.read() : undefined),
    file,
    logger: LOGGER,
    whatIsOpen: async () => () => true,
    ...options,
  });
  running.push(binding);
  await binding.start();
  return binding;
}

let nextSocket = 1;

export function bindOf(port: number, change: Partial<BindRequest> = {}): BindRequest {
  return {
    namespace: "",
    socket: String(nextSocket++),
    pid: 100,
    uid: 1000,
    program: "test",
    family: "ipv4",
    protocol: "tcp",
    address: "0.0.0.0",
    port,
    v6only: false,
    ...change,
  };
}
