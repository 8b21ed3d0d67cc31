#!/bin/sh
# Builds the programs in C where this machine can. Where it cannot, one line says what that means, and it is no failure.
set -eu
cd "$(dirname "$0")"
compiler=${CC:-gcc}
clang=${CLANG:-clang-14}
bpftool=$(PATH=$PATH:/usr/sbin command -v bpftool || true)

# One built earlier, from other sources, must not stay in use.
leave_out() {
  echo "@isthmus/natbinder: $1"
  rm -f "../build/$2"
}

for tool in make "$compiler"; do
  if ! command -v "$tool" >/dev/null || [ "$(uname -s)" != Linux ]; then
    leave_out "there is no $tool here, so there is no 'natbinder run'" natbinder-run
    leave_out "nor is there a watch for all programs of this host" natbinder-watch
    exit 0
  fi
done
make --no-print-directory CC="$compiler"
if ! command -v "$clang" >/dev/null || [ -z "$bpftool" ] || [ ! -e /usr/include/bpf/libbpf.h ]; then
  leave_out "there is no $clang, bpftool or libbpf here, so binds are not watched by BPF" natbinder-watch
  exit 0
fi
exec make --no-print-directory -C watch CC="$compiler" CLANG="$clang" BPFTOOL="$bpftool"
