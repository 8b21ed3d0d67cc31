import type { BindRequest } from "@isthmus/binding";

/** A bind that is seen when it is done, to all addresses: no others are told of. */
export function settledBind(
  bind: Pick<BindRequest, "socket" | "pid" | "uid" | "program" | "family" | "protocol" | "port">,
): BindRequest {
  const address = bind.family === "ipv4" ? "0.0.0.0" : "::";
  return { ...bind, namespace: "", address, v6only: false, isSettled: true };
}
