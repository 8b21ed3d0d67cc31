#!/bin/sh
# npm run bench: sets everything up, then measures, in private network namespaces and for some of it in a virtual
# machine. Needs root.
# shellcheck source=infra/setup/environment.sh
. "$(dirname "$0")/environment.sh"

if ! is_root; then
  say "the bench needs root: its laboratories are made of network namespaces"
  exit 1
fi
# Measures of the relay alone run in a virtual machine.
VM_PACKAGES="linux-image-amd64 linux-headers-amd64 qemu-system-x86 busybox-static kmod xz-utils ethtool socat"
case " $* " in
  *" relay"* | *" thesis"* | *" binds-module"*) needs_vm=1 ;;
esac
# shellcheck disable=SC2086 # lists of words
install_packages $BUILD_PACKAGES $BPF_PACKAGES $LAB_PACKAGES miniupnpd miniupnpd-nftables iperf3 haproxy openssh-client openssh-server ${needs_vm:+$VM_PACKAGES}
install_node_packages
build
exec node test/lab/dist/enter.js node test/bench/dist/main.js "$@"
