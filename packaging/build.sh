#!/bin/sh
# Builds the release program for one target and puts it, with checksums, into dist/.
#
#     packaging/build.sh [TARGET]
#
# TARGET is x86_64-unknown-linux-gnu (the default is that of this machine), aarch64-unknown-linux-gnu,
# or one of the -musl targets for a static program. A static program has no io_uring: tokio-uring does
# not build with musl. It makes plain calls instead, with the same results.
#
# musl needs musl-tools. Another architecture needs its C compiler (gcc-aarch64-linux-gnu), or
# cargo-zigbuild with zig, which is used if it is installed.
set -eu
cd "$(dirname "$0")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
target=${1:-$host}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

# The same source makes the same bytes: no paths of this machine, no time of the build.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
RUSTFLAGS="--remap-path-prefix=$PWD=/lsfast --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
CFLAGS="-ffile-prefix-map=$PWD=/lsfast -ffile-prefix-map=${CARGO_HOME:-$HOME/.cargo}=/cargo"
export SOURCE_DATE_EPOCH RUSTFLAGS CFLAGS
case $target in
  "$host") ;;
  aarch64-unknown-linux-gnu)
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER="${CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER:-aarch64-linux-gnu-gcc}" ;;
esac

features=""
case $target in
  *-musl) features="--no-default-features" ;;
esac
build="cargo build"
if [ "$target" != "$host" ] && command -v cargo-zigbuild >/dev/null; then
  build="cargo zigbuild"
fi
rustup target add "$target" >/dev/null 2>&1 || true
# shellcheck disable=SC2086  # $build and $features are words
$build --release --locked --target "$target" $features

# What an archive promises: no symbols, no library for a static program, no path of the build host.
program="target/$target/release/lsfast"
fail() { echo "$program $1" >&2; exit 1; }
if readelf -SW "$program" | grep -q ' \.symtab '; then fail "is not stripped"; fi
if grep -aqF -e "$PWD/" -e "${CARGO_HOME:-$HOME/.cargo}/" "$program"; then fail "contains paths of the build host"; fi
case $target in
  *-musl) if readelf -dW "$program" | grep -q NEEDED; then fail "needs libraries"; fi ;;
  *) echo "$program needs $(readelf -VW "$program" | grep -o 'GLIBC_2[0-9.]*' | sort -uV | tail -n 1) or newer" ;;
esac

name="lsfast-$version-$target"
rm -rf "dist/$name"
mkdir -p "dist/$name"
cp "$program" README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE \
  packaging/lsfast.service packaging/lsfast.yml "dist/$name/"
tar --sort=name --owner=0 --group=0 --numeric-owner --mode=go=rX,u+rw --mtime="@$SOURCE_DATE_EPOCH" \
  -C dist -cf - "$name" | gzip -n > "dist/$name.tar.gz"
rm -rf "dist/$name"
# shellcheck disable=SC2086
packaging/sbom.py "$target" $features > "dist/$name.cdx.json"
(cd dist && for file in "$name.tar.gz" "$name.cdx.json"; do sha256sum "$file" > "$file.sha256"; done)
echo "dist/$name.tar.gz"
