#!/bin/sh
# source.sh FOLDER: puts what DKMS builds ist_splice from into FOLDER/isthmus-splice-VERSION, and says that path.
# Afterwards, where FOLDER is /usr/src: dkms install isthmus-splice/VERSION
set -eu
here=$(cd "$(dirname "$0")" && pwd)
kernel=$here/../../kernel
version=$(sed -n 's/^PACKAGE_VERSION="\(.*\)"$/\1/p' "$here/dkms.conf")
target=${1:?the folder of sources, /usr/src as a rule}/isthmus-splice-$version

rm -rf "$target"
for part in core uapi splice; do
  mkdir -p "$target/$part"
  cp "$kernel/$part"/*.h "$target/$part"
done
cp "$kernel"/splice/*.c "$kernel/splice/Kbuild" "$target/splice"
cp "$here/dkms.conf" "$target"
echo "$target"
