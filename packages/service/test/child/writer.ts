import { writeFileAtomic } from "@isthmus/service";

// Replaces the file of argument 1 as fast as it can, for as long as it lives: each content is one number, repeated.
const path = process.argv[2]!;
for (let n = 0; ; n++) {
  writeFileAtomic(path, `${n % 10}`.repeat(256 * 1024));
  if (n === 0) process.stdout.write("writing\n");
}
