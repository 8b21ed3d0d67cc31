const SIGN =
  /\bBUG\b|WARNING:|Oops|general protection|KASAN|UBSAN|INFO: (task|rcu|possible)|possible recursive|suspicious RCU|unreferenced object|refcount_t|unregister_netdevice|still has .* objects|bad unlock|deadlock/;
const COMPLAINT_LINES = 40;

/** What a kernel complains of in its log: bugs that it found, each with the lines behind it. */
export function complaintsIn(log: readonly string[]): string[] {
  return log.flatMap((line, at) => (SIGN.test(line) ? [log.slice(at, at + COMPLAINT_LINES).join("\n")] : []));
}
