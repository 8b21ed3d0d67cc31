#!/bin/sh
# npm run bench: sets everything up, then measures, in private network namespaces and for some of it in a virtual
# machine. Needs root.
# shellcheck source=infra/setup/environment.sh
. "$(dirname "$0")/environment.sh"

if ! is_root; then
  say "the bench needs root: its laboratories are made of network namespaces"
  exit 1
fi
# What else the measures compare with.
PEER_PACKAGES="iperf3 haproxy socat nginx-light libnginx-mod-stream coturn openssh-client openssh-server"
# Some measures run in a virtual machine.
case " $* " in
  *" relay"* | *" thesis"* | *" binds-module"* | *" --full "*) machine=$VM_PACKAGES ;;
  *) machine= ;;
esac
# shellcheck disable=SC2086 # lists of words
install_packages $BUILD_PACKAGES $BPF_PACKAGES $LAB_PACKAGES miniupnpd miniupnpd-nftables ethtool $PEER_PACKAGES $machine
install_node_packages
build
# Rivals from npm, which nothing else needs.
peers=test/bench/peers
if ! cmp -s $peers/package-lock.json $peers/node_modules/.isthmus-lock; then
  say "installing rivals from npm"
  (cd $peers && npm install --no-save --no-audit --no-fund) || exit 1
  cp $peers/package-lock.json $peers/node_modules/.isthmus-lock
fi
exec node test/lab/dist/enter.js node test/bench/dist/main.js "$@"
