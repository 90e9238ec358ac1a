#!/bin/sh
# Runs the container image: replicates and restores in it, and looks at what it is made of. Needs
# buildah, python3 and sqlite3.
#
#     packaging/test-image.sh [ARCHIVE]      # the one in dist/ by default
#
# Where containers may not be made (no new namespaces), buildah runs it in a chroot
# (BUILDAH_ISOLATION=chroot, the default here).
set -eu
cd "$(dirname "$0")/.."
archive=${1:-$(ls dist/lsfast-*-x86_64-unknown-linux-musl.image.tar)}
export BUILDAH_ISOLATION="${BUILDAH_ISOLATION:-chroot}"

work=$(mktemp -d)
box=
trap '[ -z "$box" ] || buildah rm "$box" >/dev/null; rm -rf "$work"' EXIT
box=$(buildah from "docker-archive:$archive")
buildah inspect "$box" > "$work/inspect.json"
python3 - "$work/inspect.json" <<'PYTHON'
import json, sys
image = json.load(open(sys.argv[1]))["OCIv1"]["config"]
assert image["User"] == "65532:65532", image
assert image["Entrypoint"] == ["/usr/bin/lsfast"] and image["Cmd"] == ["replicate"], image
docker = json.load(open(sys.argv[1]))["Docker"]["config"]
health = (docker.get("Healthcheck") or {}).get("Test")
assert health[:3] == ["CMD", "/usr/bin/lsfast", "status"], docker
PYTHON
mount=$(buildah mount "$box")
files=$(cd "$mount" && find . -type f | sort | tr '\n' ' ')
[ "$files" = "./etc/ssl/certs/ca-certificates.crt ./usr/bin/lsfast " ] || { echo "files of the image: $files" >&2; exit 1; }
buildah umount "$box" >/dev/null

mkdir "$work/data"
sqlite3 "$work/data/app.db" "PRAGMA journal_mode=WAL; CREATE TABLE notes(text); INSERT INTO notes VALUES ('kept')" >/dev/null
chown -R 65532:65532 "$work/data"
chmod 755 "$work"
run() { buildah run --user 65532:65532 --volume "$work/data:/data" "$box" -- /usr/bin/lsfast "$@"; }
run version
run replicate --once /data/app.db file:///data/replica
run restore -o /data/restored.db file:///data/replica
[ "$(sqlite3 "$work/data/restored.db" 'SELECT text FROM notes')" = kept ]
[ "$(stat -c %u "$work/data/restored.db")" = 65532 ]
# The authorities are there: a certificate is the last thing that is missing without a network.
run explain s3://my-bucket/app | grep -q /etc/ssl/certs/ca-certificates.crt
echo "the image replicates and restores, as user 65532"
