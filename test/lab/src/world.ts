import { readFileSync } from "node:fs";
import { LabError } from "./lab-error.ts";

/** Where `ip netns` keeps the names of namespaces: in a world of one's own, an empty file system of its own. */
export const NETNS_FOLDER = "/run/netns";

/** The world's own file system in memory: private folders of nodes, captures. It vanishes with the world. */
export const WORLD_FOLDER = "/run/isthmus-lab";

/** Set to 1 for everything that runs inside a private world. */
export const WORLD_MARK = "ISTHMUS_LAB";

/** Options of `unshare` that make a world; when its first process ends, the kernel kills all others. */
export const UNSHARE = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];

/**
 * The first process of a world, as a shell script: it prepares the world and runs the command given as arguments, after
 * the folder of this checkout. As the world's init it also buries orphans, and the kernel kills whatever is left when it
 * ends.
 *
 * Programs run as ordinary users, who must be able to reach the checkout where it lies in a folder of root's alone: in
 * the world such a folder holds the checkout and nothing else, at the same path.
 */
export const WORLD_SCRIPT = `
set -e
checkout=$1
shift
mkdir -p ${NETNS_FOLDER} ${WORLD_FOLDER}
mount -t tmpfs -o mode=755 isthmus-lab ${NETNS_FOLDER}
mount --make-shared ${NETNS_FOLDER}
mount -t tmpfs -o mode=755 isthmus-lab ${WORLD_FOLDER}
closed=
folder=$checkout
while [ "$folder" != / ]; do
  folder=$(dirname "$folder")
  case $(stat -c %A "$folder") in *[xt]) ;; *) closed=$folder ;; esac
done
if [ -n "$closed" ]; then
  mkdir ${WORLD_FOLDER}/checkout
  mount --bind "$checkout" ${WORLD_FOLDER}/checkout
  mount -t tmpfs -o mode=755 isthmus-lab "$closed"
  mkdir -p "$checkout"
  mount --move ${WORLD_FOLDER}/checkout "$checkout"
  rmdir ${WORLD_FOLDER}/checkout
  cd "$PWD" 2>/dev/null || cd "$checkout"
fi
ip link set lo up
if [ -n "$(ip -4 route show table all default; ip -6 route show table all default | grep -v unreachable || true)" ]; then
  echo "isthmus-lab: this world has a way out: refusing to run in it" >&2
  exit 1
fi
set +e
# Ctrl-C is the command's affair: the shell waits for it all the same.
trap : INT
${WORLD_MARK}=1 "$@"
exit $?
`;

/** @throws LabError when this process is not inside a private world, where a laboratory could hurt the machine */
export function requireLab(): void {
  const mounts = readFileSync("/proc/self/mounts", "utf8");
  if (process.env[WORLD_MARK] === "1" && mounts.includes(`isthmus-lab ${WORLD_FOLDER} tmpfs`)) return;
  throw new LabError(
    "a laboratory needs a world of its own: run the command, as root, as `node test/lab/src/enter.ts COMMAND ARGUMENTS`",
  );
}
