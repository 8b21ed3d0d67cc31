#!/bin/sh
# npm start: sets everything up, then shows a web server behind one NAT being used from behind another.
# The relay splices in BPF programs where this host takes them. `-- --datapath kernel`: in the kernel of a virtual machine.
# shellcheck source=infra/setup/environment.sh
. "$(dirname "$0")/environment.sh"

relay=$BPF_PACKAGES
case " $* " in
  *" --datapath kernel "* | *" --datapath=kernel "*) relay=$VM_PACKAGES ;;
  *" --datapath userspace "* | *" --datapath=userspace "*) relay= ;;
esac
# shellcheck disable=SC2086 # lists of words
is_root && install_packages $BUILD_PACKAGES $LAB_PACKAGES $relay nginx-light
install_node_packages
build
exec node test/demo/dist/main.js "$@"
