#!/bin/sh
# npm start: sets everything up, then shows a web server behind one NAT being used from behind another.
# shellcheck source=infra/setup/environment.sh
. "$(dirname "$0")/environment.sh"

# shellcheck disable=SC2086 # lists of words
is_root && install_packages $BUILD_PACKAGES $LAB_PACKAGES nginx-light
install_node_packages
build
exec node test/demo/dist/main.js "$@"
