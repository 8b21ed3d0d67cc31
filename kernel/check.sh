#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
# check.sh [CHECK...]: what can be said of the kernel code without running it. All checks, or those that are named:
#   warnings    gcc with W=1, against each installed kernel
#   sparse      types, byte order and locks, likewise
#   checkpatch  the kernel's style, strictly (Debian package linux-source-6.1)
#   coccicheck  the kernel's own semantic patches (linux-source-6.1, coccinelle)
#   arm64       that it compiles for arm64, against Debian's headers (gcc-aarch64-linux-gnu, linux-headers-amd64)
#   dkms        that what infra/dkms hands to DKMS builds
# Status 0 when none has anything to say.
set -eu
cd "$(dirname "$0")"
build=$PWD/build/check
log=$build/log
mkdir -p "$build"

say() { printf '%s\n' "$*"; }

fail() {
  cat "$log"
  say "$*"
  exit 1
}

# Kernels that modules can be built for.
kernels() {
  for folder in /lib/modules/*/build; do
    [ ! -e "$folder/Makefile" ] || basename "$(dirname "$folder")"
  done
}

# modules NAME VERSION [ARGUMENT...]: builds all of each module anew; what the compiler says is in the log.
modules() {
  name=$1
  version=$2
  shift 2
  for folder in splice natpass; do
    target=$build/$name-$version-$folder
    rm -rf "$target"
    make --no-print-directory -C $folder KVERSION="$version" BUILD="$target" "$@" >"$log" 2>&1 ||
      fail "$folder/ does not build for $version"
    ! grep -E 'warning|error' "$log" >/dev/null || fail "$folder/ builds for $version with warnings"
  done
}

# The kernel's own scripts; unpacked once, as the archive is large.
scripts() {
  archive=/usr/src/linux-source-6.1.tar.xz
  [ -f "$archive" ] || { say "missing Debian package: linux-source-6.1"; exit 1; }
  stamp=$(stat -c '%s %Y' "$archive")
  if [ "$(cat "$build/stamp" 2>/dev/null)" != "$stamp" ]; then
    tar -C "$build" -xf "$archive" linux-source-6.1/scripts
    say "$stamp" >"$build/stamp"
  fi
  scripts=$build/linux-source-6.1/scripts
}

warnings() {
  for version in $(kernels); do
    modules gcc "$version" W=1
    say "warnings: none, $version"
  done
}

sparse() {
  for version in $(kernels); do
    modules sparse "$version" sparse
    say "sparse: nothing, $version"
  done
}

checkpatch() {
  scripts
  checkpatch="$scripts/checkpatch.pl --no-tree --strict --terse --show-types"
  # It writes into the folder that it runs in.
  cd "$build"
  files=
  for file in ../../splice/*.[ch] ../../splice/Kbuild ../../natpass/*.[ch] ../../natpass/Kbuild ../../core/*.h \
    ../../uapi/*.h; do
    [ "${file##*/}" = trace.h ] || files="$files $file"
  done
  # shellcheck disable=SC2086 # lists of words
  $checkpatch -f $files >"$log" || fail "checkpatch has something to say"
  # The macros of tracepoints have a layout of their own.
  $checkpatch --ignore OPEN_ENDED_LINE,PARENTHESIS_ALIGNMENT -f ../../splice/trace.h ../../natpass/trace.h >"$log" ||
    fail "checkpatch has something to say"
  cd ../..
  say "checkpatch: nothing"
}

coccicheck() {
  scripts
  rm -rf "$build/cocci"
  for folder in core splice natpass uapi; do
    mkdir -p "$build/cocci/$folder"
    cp "$folder"/*.[ch] "$build/cocci/$folder" 2>/dev/null || cp "$folder"/*.h "$build/cocci/$folder"
  done
  version=$(kernels | grep '^6\.1\.' | tail -1)
  headers=/usr/src/linux-headers-${version%-*}-common
  rules=0
  : >"$log"
  # Two with scripts in OCaml need its compiler: sparse finds what one of them does, the other is about a driver's data.
  grep -rl '^virtual report' "$scripts/coccinelle" | sort | xargs grep -L 'script:ocaml' >"$build/rules"
  while read -r rule; do
    # shellcheck disable=SC2046 # the rule's own options
    spatch -D report --very-quiet --no-show-diff --include-headers --cocci-file "$rule" \
      $(sed -n 's/^.*Options: *//p' "$rule") --dir "$build/cocci" -I "$headers/include" -I "$headers/include/uapi" \
      -I "$headers/arch/x86/include" </dev/null >>"$log" 2>"$build/spatch" || { cat "$build/spatch"; fail "${rule##*/} does not run"; }
    rules=$((rules + 1))
  done <"$build/rules"
  [ ! -s "$log" ] || fail "coccicheck has something to say"
  say "coccicheck: nothing, $rules rules"
}

arm64() {
  # Debian's headers for arm64 come with tools that run there; those of this machine's headers are the same.
  version=$(kernels | grep -- '^6\.1\..*-amd64$' | tail -1)
  version=${version%amd64}arm64
  root=$build/arm64-root
  if [ ! -e "$root/usr/src/linux-headers-$version" ]; then
    mkdir -p "$build/apt/lists/partial" "$build/apt/archives/partial"
    : >"$build/apt/status"
    apt="apt-get -qq -o Dir::State::lists=$build/apt/lists -o Dir::Cache=$build/apt -o Dir::State::status=$build/apt/status \
      -o APT::Architecture=arm64 -o APT::Sandbox::User=root"
    (
      cd "$build/apt"
      $apt update && $apt download "linux-headers-$version" && dpkg-deb -x linux-headers-"$version"_*.deb "$root"
    ) >"$log" 2>&1 || fail "the headers of $version cannot be had"
    for part in scripts tools; do
      ln -sfn "/usr/lib/linux-kbuild-6.1/$part" "$root/usr/src/linux-headers-$version/$part"
    done
  fi
  modules gcc "$version" W=1 ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu- KDIR="$root/usr/src/linux-headers-$version"
  say "arm64: builds without warnings, $version"
}

dkms() {
  rm -rf "$build/dkms"
  for folder in splice natpass; do
    sources=$(sh ../infra/dkms/source.sh "$build/dkms" $folder)
    for version in $(kernels); do
      # As DKMS does: its own variables, then the configuration, then the command in it. An array, hence bash.
      bash -euc '
        dkms_tree=$1 kernel_source_dir=$2
        . "$3/dkms.conf"
        folder=$dkms_tree/$PACKAGE_NAME/$PACKAGE_VERSION/build
        rm -rf "${folder%/build}" && mkdir -p "${folder%/build}" && cp -r "$3" "$folder"
        eval "${MAKE[0]}"
        modinfo -F version "$folder/${BUILT_MODULE_LOCATION[0]}/${BUILT_MODULE_NAME[0]}.ko" | grep -qx "$PACKAGE_VERSION"
      ' dkms "$build/dkms" "/lib/modules/$version/build" "$sources" >"$log" 2>&1 ||
        fail "DKMS would not build $folder/ for $version"
      say "dkms: $folder/ builds, $version"
    done
  done
}

[ $# -gt 0 ] || set -- warnings sparse checkpatch coccicheck arm64 dkms
for check in "$@"; do
  case $check in
    warnings | sparse | checkpatch | coccicheck | arm64 | dkms) "$check" ;;
    *) say "no such check: $check" && exit 2 ;;
  esac
done
