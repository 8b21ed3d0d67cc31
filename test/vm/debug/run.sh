#!/bin/sh
# run.sh [FILE...]: builds the debug kernel where it is not there yet, and runs on it, as root, what moves packets and binds
# through the modules, or the files that are named. When all of it passes, last-passed.md is written anew: commit it.
# A report of the kernel, or an object that nothing points at in the end, fails the test in which it is looked for.
set -eu
cd "$(dirname "$0")/../../.."
here=test/vm/debug
PATH=$PWD/node_modules/.bin:$PATH
export PATH ISTHMUS_KERNEL=debug

[ "$(id -u)" = 0 ] || { echo "virtual machines need root, for the host's files" >&2; exit 1; }
# What a run covers when nothing is named; its name is written down.
[ $# -gt 0 ] || set -- splice robust load wire nats netlink natpass
files=
for name in "$@"; do
  files="$files test/vm/test/$name.test.ts"
done
sh $here/build.sh

report=$(mktemp)
trap 'rm -f "$report"' EXIT
started=$(date +%s)
# shellcheck disable=SC2086 # a list of words
vitest run --project vm --testTimeout=3600000 --hookTimeout=3600000 --reporter=verbose --reporter=json \
  --outputFile.json="$report" $files
passed=$(sed -n 's/.*"numPassedTests":\([0-9]*\).*/\1/p' "$report")
changes=$(git status --porcelain kernel/core kernel/splice kernel/natpass kernel/uapi | grep -vc '^??' || true)
cat >$here/last-passed.md <<END
# The debug kernel: when it last passed

Written by run.sh: KASAN, lockdep, RCU, timers and work under DEBUG_OBJECTS, UBSAN and kmemleak had nothing to report.

| what    |                                                                                      |
| ------- | ------------------------------------------------------------------------------------ |
| date    | $(date -u +%Y-%m-%d) |
| kernel  | $(cat test/vm/build/debug/linux-source-6.1/include/config/kernel.release), debug.config of $(git log -1 --format=%h -- $here/debug.config) |
| commit  | $(git rev-parse --short HEAD)$([ "$changes" = 0 ] || echo ", and uncommitted changes of $changes files in kernel/") |
| tests   | $passed, in $* |
| minutes | $((($(date +%s) - started) / 60)) |
END
