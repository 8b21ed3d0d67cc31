#!/bin/sh
# Builds the supervisor where this machine can. Where it cannot, one line says what that means, and it is no failure.
set -eu
cd "$(dirname "$0")"
compiler=${CC:-gcc}
for tool in make "$compiler"; do
  if ! command -v "$tool" >/dev/null || [ "$(uname -s)" != Linux ]; then
    echo "@isthmus/natbinder: there is no $tool here, so there is no 'natbinder run'"
    # One built earlier, from other sources, must not stay in use.
    rm -f ../build/natbinder-run
    exit 0
  fi
done
exec make --no-print-directory CC="$compiler"
