#!/bin/sh
# Builds the debug kernel from Debian's linux-source-6.1 into build/debug, in some 15 minutes; once it is there, nothing.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=$here/../build/debug
source=/usr/src/linux-source-6.1.tar.xz
tree=$build/linux-source-6.1
[ -f "$source" ] || { echo "missing Debian packages: linux-source-6.1 bc bison flex libelf-dev libssl-dev" >&2; exit 1; }
stamp=$(cat "$here/debug.config" "$here/build.sh" | sha256sum | cut -d' ' -f1)
[ "$(cat "$build/stamp" 2>/dev/null)" = "$stamp" ] && exit 0
mkdir -p "$build"
[ -d "$tree" ] || tar -C "$build" -xf "$source"
cd "$tree"
nice -n 10 make -s tinyconfig
cp .config base.config
nice -n 10 ./scripts/kconfig/merge_config.sh -m base.config "$here/debug.config" >/dev/null
nice -n 10 make -s olddefconfig
# An option that quietly disappeared would make the run worthless.
for option in KASAN KASAN_GENERIC PROVE_LOCKING PROVE_RCU DEBUG_KMEMLEAK DEBUG_OBJECTS_TIMERS UBSAN SLUB VIRTIO_CONSOLE; do
  grep -q "^CONFIG_$option=y$" .config || { echo "the configuration lost CONFIG_$option" >&2; exit 1; }
done
nice -n 10 make -s -j"$(nproc)" bzImage modules
echo "$stamp" >"$build/stamp"
