#!/bin/sh
# source.sh FOLDER [splice|natpass]: puts what DKMS builds that module from (splice, if it is not said) into
# FOLDER/isthmus-MODULE-VERSION, and says that path. Afterwards, where FOLDER is /usr/src:
# dkms install isthmus-MODULE/VERSION
set -eu
here=$(cd "$(dirname "$0")" && pwd)
kernel=$here/../../kernel
module=${2:-splice}
case $module in
  splice) headers="core uapi" ;;
  natpass) headers=uapi ;;
  *) echo "no such module: $module" >&2 && exit 2 ;;
esac
version=$(sed -n 's/^PACKAGE_VERSION="\(.*\)"$/\1/p' "$here/$module.conf")
target=${1:?the folder of sources, /usr/src as a rule}/isthmus-$module-$version

rm -rf "$target"
for part in $headers $module; do
  mkdir -p "$target/$part"
  cp "$kernel/$part"/*.h "$target/$part"
done
cp "$kernel/$module"/*.c "$kernel/$module/Kbuild" "$target/$module"
cp "$here/$module.conf" "$target/dkms.conf"
echo "$target"
