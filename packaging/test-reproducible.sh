#!/bin/sh
# Builds the present commit once more, in another folder with other settings of the shell, and
# compares byte by byte what comes of it with what is in dist/.
#
#     packaging/test-reproducible.sh [TARGET]
#
# dist/ has what packaging/build.sh (run first if the archive is missing) and packaging/packages.sh
# made of this commit. A package is compared if it is there and its tool is installed. The second
# build takes as long as the first, and needs some 2 GB in the folder for temporary files.
set -eu
cd "$(dirname "$0")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
target=${1:-$host}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
name="lsfast-$version-$target"
[ -z "$(git status --porcelain --untracked-files=no)" ] || { echo "there are changes that are not committed: commit them first" >&2; exit 1; }
[ -e "dist/$name.tar.gz" ] || packaging/build.sh "$target"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
folder="$work/elsewhere/a-folder-with-a-longer-name"
mkdir -p "$folder"
git clone --quiet . "$folder/lsfast"
first=$PWD/dist
cd "$folder/lsfast"
umask 077
unset CARGO_TARGET_DIR
export TZ=Asia/Kathmandu LC_ALL=C.UTF-8
packaging/build.sh "$target"

case $target in x86_64-*) deb=amd64 rpm=x86_64 ;; *) deb=arm64 rpm=aarch64 ;; esac
files="$name.tar.gz $name.cdx.json"
packages=""
case $target in
  *-gnu)
    for package in "$first"/lsfast_*_$deb.deb "$first"/lsfast-*.$rpm.rpm; do
      [ ! -e "$package" ] || packages="$packages ${package##*/}"
    done ;;
esac
if [ -n "$packages" ] && command -v cargo-deb >/dev/null && command -v cargo-generate-rpm >/dev/null; then
  packaging/packages.sh "$target"
  files="$files$packages"
fi

differs=""
for file in $files; do
  if cmp "$first/$file" "dist/$file"; then
    echo "$file: the same bytes"
  else
    differs="$differs $file"
  fi
done
if [ -n "$differs" ]; then
  mkdir "$work/1" "$work/2"
  tar -xzf "$first/$name.tar.gz" -C "$work/1"
  tar -xzf "dist/$name.tar.gz" -C "$work/2"
  diff -r "$work/1" "$work/2" >&2 || true
  echo "two builds of one commit differ:$differs" >&2
  exit 1
fi
