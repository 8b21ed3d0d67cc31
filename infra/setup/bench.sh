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
# One of them compares with rtpengine, whose program Debian installs and whose module is built for the virtual machine.
case " $* " in
  *" relay "* | *" relay-packets "* | *" --full "*) calls="rtpengine-daemon rtpengine-iptables" ;;
  *) calls= ;;
esac
# shellcheck disable=SC2086 # lists of words
install_packages $BUILD_PACKAGES $BPF_PACKAGES $LAB_PACKAGES miniupnpd miniupnpd-nftables ethtool $PEER_PACKAGES $machine $calls
install_node_packages
build
peers=test/bench/peers
# Of rtpengine's module only the source: its package would build it for the running kernel, which takes none. Program and
# module understand each other when they are of one version.
if [ -n "$calls" ]; then
  version=$(dpkg-query -W -f '${Version}' rtpengine-daemon)
  module=$peers/build/rtpengine
  if [ "$(cat $module/version 2>/dev/null)" != "$version" ]; then
    say "fetching rtpengine's module from Debian"
    rm -rf $module && mkdir -p $module
    # Else apt would fetch as a user who may not write here.
    fetch="apt-get -qq -o APT::Sandbox::User=root download rtpengine-kernel-dkms=$version"
    (apt-get -qq update && cd $module && $fetch && dpkg-deb -x ./*.deb .) || exit 1
    printf '%s' "$version" >$module/version
  fi
fi
# Rivals from npm, which nothing else needs.
if ! cmp -s $peers/package-lock.json $peers/node_modules/.isthmus-lock; then
  say "installing rivals from npm"
  (cd $peers && npm install --no-save --no-audit --no-fund) || exit 1
  cp $peers/package-lock.json $peers/node_modules/.isthmus-lock
fi
exec node test/lab/dist/enter.js node test/bench/dist/main.js "$@"
