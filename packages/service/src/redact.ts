/** Fields that must never reach a log, wherever an object carries them. */
const SECRET_FIELDS = new Set([
  "invite",
  "token",
  "ticket",
  "password",
  "secret",
  "privateKey",
  "authorization",
  "signature",
]);
const CENSOR = "[redacted]";
/** Nothing that is worth a log line is deeper; it also ends objects that contain themselves. */
const MOST_DEPTH = 8;

/**
 * The same value with the secrets in it replaced; what holds none is not copied. A log line is made far too often for
 * a general library's paths with wildcards, which cost tens of microseconds each.
 */
export function redact<T extends object>(value: T, depth = 0): T {
  if (ArrayBuffer.isView(value) || typeof (value as { toJSON?: unknown }).toJSON === "function") return value;
  let copy: Record<string, unknown> | undefined;
  for (const [key, field] of Object.entries(value)) {
    const safe = SECRET_FIELDS.has(key) ? CENSOR : redactField(field, depth);
    if (safe === field) continue;
    copy ??= (Array.isArray(value) ? [...value] : { ...value }) as Record<string, unknown>;
    copy[key] = safe;
  }
  return (copy ?? value) as T;
}

function redactField(field: unknown, depth: number): unknown {
  // The logger's own serializer makes a plain object out of an error first.
  if (typeof field !== "object" || field === null || field instanceof Error) return field;
  return depth === MOST_DEPTH ? "[deep]" : redact(field, depth + 1);
}
