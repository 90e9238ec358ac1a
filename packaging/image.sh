#!/bin/sh
# Makes a container image of the static program: nothing but it, the certificates of authorities and
# a user that is not root. No daemon is needed (buildah).
#
#     packaging/image.sh [TARGET]      # dist/lsfast-VERSION-TARGET.image.tar
set -eu
cd "$(dirname "$0")/.."
target=${1:-x86_64-unknown-linux-musl}
program="target/$target/release/lsfast"
[ -x "$program" ] || { echo "$program is missing: run packaging/build.sh $target first" >&2; exit 1; }
certificates=${CERTIFICATES:-/etc/ssl/certs/ca-certificates.crt}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
case $target in
  x86_64-*) architecture=amd64 ;;
  aarch64-*) architecture=arm64 ;;
  *) echo "no name for the architecture of $target" >&2; exit 1 ;;
esac
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}

box=$(buildah from --format docker --arch "$architecture" scratch)
trap 'buildah rm "$box" >/dev/null' EXIT
buildah copy --quiet --chmod 755 "$box" "$program" /usr/bin/lsfast >/dev/null
buildah copy --quiet --chmod 644 "$box" "$certificates" /etc/ssl/certs/ca-certificates.crt >/dev/null
buildah config \
  --entrypoint '["/usr/bin/lsfast"]' --cmd replicate --user 65532:65532 \
  --env SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt --env HOME=/ \
  --healthcheck 'CMD /usr/bin/lsfast status --json' --healthcheck-interval 30s \
  --label org.opencontainers.image.title=lsfast --label org.opencontainers.image.version="$version" \
  --label org.opencontainers.image.licenses="MIT OR Apache-2.0" "$box"
mkdir -p dist
out="dist/lsfast-$version-$target.image.tar"
rm -f "$out"
# The form of OCI has no health check.
buildah commit --quiet --timestamp "$SOURCE_DATE_EPOCH" --format docker "$box" "docker-archive:$out:lsfast:$version" >/dev/null
(cd dist && sha256sum "${out#dist/}") > "$out.sha256"
echo "$out"
