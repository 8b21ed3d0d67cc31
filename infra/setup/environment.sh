#!/bin/sh
# Sourced by start.sh and test.sh: brings a fresh Debian machine to where Isthmus can be built and shown.
# Nothing here asks anything; what cannot be done is said in one line.

root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root" || exit 1
export TURBO_TELEMETRY_DISABLED=1 npm_config_loglevel=error

say() { printf '%s\n' "$*" >&2; }

is_root() { [ "$(id -u)" = 0 ]; }

# Debian packages that are missing, out of those named. A package counts as there when dpkg has it installed.
missing_packages() {
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || printf '%s ' "$package"
  done
}

# Installs Debian packages, without starting the services that they bring: tests and the demo start their own.
install_packages() {
  missing=$(missing_packages "$@")
  [ -z "$missing" ] && return 0
  if ! is_root; then
    say "not root: these Debian packages are missing and are done without: $missing"
    return 0
  fi
  say "installing from Debian: $missing"
  policy=/usr/sbin/policy-rc.d
  made_policy=
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    made_policy=1
  fi
  log=$(mktemp)
  # Kernels are for virtual machines, which have an initial file system of their own: making Debian's takes a minute each.
  # shellcheck disable=SC2086 # a list of words
  if ! { export INITRD=No && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing; } >"$log" 2>&1; then
    tail -20 "$log" >&2
    [ -n "$made_policy" ] && rm -f "$policy"
    say "the packages could not be installed"
    exit 1
  fi
  rm -f "$log"
  [ -n "$made_policy" ] && rm -f "$policy"
  return 0
}

# Node packages, when the lock file is another one than at the last time. Node 24 is among them. Not `npm ci`: it refuses
# a lock file without the optional packages of platforms that the registry at hand does not carry.
install_node_packages() {
  stamp=node_modules/.isthmus-lock
  wanted=$(sha256sum package-lock.json | cut -d' ' -f1)
  if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ] || [ ! -x node_modules/.bin/node ]; then
    say "installing Node packages"
    npm install --no-save --no-audit --no-fund || exit 1
    printf '%s' "$wanted" >"$stamp"
  fi
  PATH="$root/node_modules/.bin:$PATH"
  export PATH
}

build() {
  say "building"
  log=$(mktemp)
  if ! turbo run build --output-logs=errors-only >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
  fi
  # What a step has to say to people (no compiler, for example) is passed on.
  grep '^.*:build: note: ' "$log" | sed 's/^.*:build: note: //' >&2
  rm -f "$log"
}

# shellcheck disable=SC2034 # used by the scripts that source this one
# For the build: the native add-on and the laboratories' delay lines.
BUILD_PACKAGES="gcc make libc6-dev"
# shellcheck disable=SC2034
# For laboratories out of network namespaces; nft looks up the names of protocols in netbase's files.
LAB_PACKAGES="iproute2 netbase nftables iputils-ping conntrack tcpdump curl procps util-linux"
# shellcheck disable=SC2034
# For splices in BPF programs, and natbinder's watch of all programs: these are compiled, and their loaders with them.
BPF_PACKAGES="clang-14 libbpf-dev bpftool"
# shellcheck disable=SC2034
# For virtual machines: a kernel with its headers. Some 600 MB.
VM_PACKAGES="linux-image-amd64 linux-headers-amd64 qemu-system-x86 busybox-static kmod xz-utils"
