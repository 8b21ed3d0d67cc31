#!/bin/sh
# npm test: sets everything up, then checks and tests. `--full` adds the long ones.
# shellcheck source=infra/setup/environment.sh
. "$(dirname "$0")/environment.sh"

case ${1:-} in
  '') ;;
  --full) ISTHMUS_FULL=1 && export ISTHMUS_FULL ;;
  *) say "usage: npm test, or npm run test:full" && exit 2 ;;
esac
if ! is_root && [ "${CI:-}" = true ]; then
  say "CI must run as root: the laboratories need it, and nothing is skipped in CI"
  exit 1
fi
# Real programs for the end-to-end tests.
TEST_PACKAGES="nginx-light openssh-server openssh-client redis-server redis-tools exim4-daemon-light bind9-dnsutils dnsmasq-base iperf3 chromium shellcheck miniupnpd miniupnpd-nftables runc rtorrent transmission-daemon"
# In virtual machines: a second kernel, and offloads that are switched off.
MACHINE_PACKAGES="$VM_PACKAGES linux-image-6.12-amd64 linux-headers-6.12-amd64 ethtool sparse"
# What else kernel/check.sh needs for all that it checks.
CHECK_PACKAGES="linux-source-6.1 coccinelle gcc-aarch64-linux-gnu"
# shellcheck disable=SC2086 # lists of words
is_root && install_packages $BUILD_PACKAGES $BPF_PACKAGES $LAB_PACKAGES $TEST_PACKAGES $MACHINE_PACKAGES ${ISTHMUS_FULL:+$CHECK_PACKAGES}
install_node_packages
build
exec node test/run.ts
