#!/bin/sh
# Makes the .deb and the .rpm of a program that packaging/build.sh has built, in dist/.
#
#     packaging/packages.sh [TARGET]
#
# Needs cargo-deb and cargo-generate-rpm (`cargo install --locked cargo-deb cargo-generate-rpm`).
set -eu
cd "$(dirname "$0")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
target=${1:-$host}
program="target/$target/release/lsfast"
[ -x "$program" ] || { echo "$program is missing: run packaging/build.sh $target first" >&2; exit 1; }

stage=dist/stage
rm -rf "$stage"
mkdir -p "$stage/man" "$stage/completions"
cp "$program" "$stage/lsfast"
# The program writes its own manual. Of another architecture it cannot run here: use one that can.
runs=$program
"$runs" version >/dev/null 2>&1 || runs=target/$host/release/lsfast
"$runs" man --dir "$stage/man"
"$runs" completions bash > "$stage/completions/lsfast.bash"
"$runs" completions zsh > "$stage/completions/_lsfast"
"$runs" completions fish > "$stage/completions/lsfast.fish"
# Copies, because the .rpm keeps the time of a file that is older than the commit: that of a checkout.
cp -r README.md CHANGELOG.md LICENSE-* docs packaging/lsfast.yml packaging/lsfast.service "$stage/"

SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH
cargo deb --no-build --no-strip --target "$target" --output dist/
cargo generate-rpm --target "$target" --output dist/
rm -rf "$stage"
(cd dist && for package in *.deb *.rpm; do sha256sum "$package" > "$package.sha256"; done)
ls dist/*.deb dist/*.rpm
