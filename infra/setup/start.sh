#!/bin/sh
# npm start: sets everything up, then shows a web server behind one NAT being used from behind another.
# `-- --datapath kernel`: with a relay in a virtual machine that splices in its kernel.
# shellcheck source=infra/setup/environment.sh
. "$(dirname "$0")/environment.sh"

machine=
case " $* " in
  *" --datapath kernel "* | *" --datapath=kernel "*) machine=$VM_PACKAGES ;;
esac
# shellcheck disable=SC2086 # lists of words
is_root && install_packages $BUILD_PACKAGES $LAB_PACKAGES $machine nginx-light
install_node_packages
build
exec node test/demo/dist/main.js "$@"
