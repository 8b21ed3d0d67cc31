/** The laboratory itself failed: a tool is missing, a command did not work, a program died or took too long. */
export class LabError extends Error {
  override name = "LabError";
}
