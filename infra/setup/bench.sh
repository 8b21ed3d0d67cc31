#!/bin/sh
# npm run bench: sets everything up, then measures, in private network namespaces. Needs root.
# shellcheck source=infra/setup/environment.sh
. "$(dirname "$0")/environment.sh"

if ! is_root; then
  say "the bench needs root: its laboratories are made of network namespaces"
  exit 1
fi
# shellcheck disable=SC2086 # lists of words
install_packages $BUILD_PACKAGES $LAB_PACKAGES iperf3 haproxy openssh-client openssh-server
install_node_packages
build
exec node test/lab/dist/enter.js node test/bench/dist/main.js "$@"
