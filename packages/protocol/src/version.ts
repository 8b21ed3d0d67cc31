/**
 * The one version of the wire format, carried by every login, leg header, preface and invite.
 *
 * Rule for change, held by tests:
 * - A receiver ignores fields that it does not know in a JSON message, so a newer peer may add optional fields.
 * - A request of an unknown type is answered `unknown-type`; an event of an unknown type is counted and dropped.
 * - Anything whose meaning changes needs a new version. A peer whose version is not in {@link SUPPORTED_VERSIONS} is
 *   answered `unsupported-version`, with the versions that would be understood, and closed.
 * - Binary headers have no optional parts: another version or a reserved bit that is set is refused.
 */
export const PROTOCOL_VERSION = 1;

/** Versions that this build speaks, newest first. */
export const SUPPORTED_VERSIONS: readonly number[] = [PROTOCOL_VERSION];
