#!/bin/sh
# npm run openarena: the Natbinder paper's third use case with OpenArena's own servers. Apart from npm test, since their
# data is a download of 417 MB. Needs root.
# shellcheck source=infra/setup/environment.sh
. "$(dirname "$0")/environment.sh"

if ! is_root; then
  say "this needs root: the laboratory is made of network namespaces"
  exit 1
fi
# shellcheck disable=SC2086 # lists of words
install_packages $BUILD_PACKAGES $LAB_PACKAGES miniupnpd miniupnpd-nftables openarena-server
install_node_packages
build
exec node test/lab/dist/enter.js vitest run --project optional test/e2e/optional/openarena.test.ts
