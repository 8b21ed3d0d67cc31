import { z } from "zod";
import { fingerprint } from "./bytes.ts";
import { IsthmusError } from "./codes.ts";

const NAME = /^[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?$/;

/** User, service, device and channel names: what is safe in a DNS label, a file name and a shell word alike. */
export const name = z
  .string()
  .regex(NAME, "a name is 1 to 63 of a-z 0-9 . _ - and starts and ends with a letter or digit")
  .meta({ description: "name: 1 to 63 of a-z 0-9 . _ -" });

/** `service@user`, with `#fingerprint` where the caller pins the provider's key. */
export interface ServiceRef {
  service: string;
  user: string;
  fingerprint?: string;
}

/** @throws IsthmusError `bad-request` that says which part is wrong. */
export function parseServiceRef(text: string): ServiceRef {
  const match = /^([^@#]*)@([^@#]*)(?:#(.*))?$/.exec(text);
  if (!match) throw new IsthmusError("bad-request", `'${text.slice(0, 200)}' is not of the form SERVICE@USER`);
  const [, service, user, pin] = match as unknown as [string, string, string, string | undefined];
  for (const [label, value] of [
    ["service", service],
    ["user", user],
  ] as const) {
    const checked = name.safeParse(value);
    if (!checked.success)
      throw new IsthmusError("bad-request", `${label} '${value.slice(0, 64)}': ${checked.error.issues[0]!.message}`);
  }
  if (pin === undefined) return { service, user };
  if (!fingerprint.safeParse(pin).success) {
    throw new IsthmusError("bad-request", `'${pin.slice(0, 64)}' is not a key fingerprint (32 of a-z 2-7)`);
  }
  return { service, user, fingerprint: pin };
}

/** `service@user`, as shown to people and as mixed into a link's prologue. */
export function serviceRefText(ref: { service: string; user: string }): string {
  return `${ref.service}@${ref.user}`;
}
