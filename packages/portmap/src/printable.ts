/** Text from the network as it may be shown and logged: one line, no control characters, not too long. */
export function printable(text: string, longest: number): string {
  return [...text.replace(/[\p{Cc}\p{Cf}\p{Co}\p{Cs}\u2028\u2029]+/gu, " ").trim()].slice(0, longest).join("");
}
