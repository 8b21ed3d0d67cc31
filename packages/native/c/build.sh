#!/bin/sh
# Builds the add-ons where this machine can. Where it cannot, one line says what that means, and it is no failure.
set -eu
cd "$(dirname "$0")/.."
compiler=${CC:-gcc}
for tool in make "$compiler"; do
  if ! command -v "$tool" >/dev/null; then
    echo "@isthmus/native: there is no $tool here, so node:crypto will be used and there is no netlink"
    # Those built earlier, from other sources, must not stay in use.
    rm -f build/isthmus_native.node build/isthmus_netlink.node build/isthmus_sockets.node build/isthmus_bpf.node
    exit 0
  fi
done
exec make --no-print-directory CC="$compiler"
