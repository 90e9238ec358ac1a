#!/bin/sh
# Builds lsfast from what `cargo package` makes, outside this folder and so without
# .cargo/config.toml, and shows that the program restores and follows.
#
#     packaging/test-package.sh [PROFILE]      # dev by default
#
# The first run compiles all dependencies and SQLite twice, into target/package.
set -eu
cd "$(dirname "$0")/.."
profile=${1:-dev}
case $profile in dev) folder=debug ;; *) folder=$profile ;; esac
export CARGO_TARGET_DIR="$PWD/target/package"

cargo package --list --allow-dirty 2>/dev/null > target/package-list
if grep -nE '^(tests|benches|fuzz|scripts|\.ci|\.github|target)/' target/package-list; then
  echo "the package has files that nobody needs who builds it" >&2
  exit 1
fi
for needed in build.rs src/main.rs LICENSE-MIT LICENSE-APACHE README.md Cargo.lock; do
  grep -qx "$needed" target/package-list || { echo "the package lacks $needed" >&2; exit 1; }
done
cargo package --no-verify --allow-dirty --quiet

work=$(mktemp -d)
lsfast=
trap '[ -z "$lsfast" ] || kill $lsfast 2>/dev/null || true; rm -rf "$work"' EXIT
tar -xzf "$CARGO_TARGET_DIR"/package/lsfast-*.crate -C "$work"
cd "$work"/lsfast-*
unset LIBSQLITE3_FLAGS
cargo build --locked --profile "$profile"
program="$CARGO_TARGET_DIR/$folder/lsfast"
cd "$work"

"$program" version
"$program" version --json | grep -q '"ENABLE_DBPAGE_VTAB"' || { echo "SQLite lacks dbpage" >&2; exit 1; }
# The commit comes from the package.
"$program" version --json | grep -qE '"commit":"[0-9a-f]{12}"' || { echo "no commit" >&2; exit 1; }
# Another program, built in the folder of the sources: SQLite must have the same options.
if [ -n "${COMPARE:-}" ]; then
  for each in "$program" "$COMPARE"; do
    "$each" version --json | sed 's/.*"sqlite_options":\[\([^]]*\)\].*/\1/' | tr ',' '\n' |
      grep -v '"COMPILER=' | sort > options."$(basename "$(dirname "$each")")"."${each##*/}".$$
  done
  set -- options.*
  cmp "$@" || { diff "$@"; exit 1; }
fi

sqlite3 app.db "PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES ('first')" >/dev/null
"$program" replicate --once app.db "file://$work/replica"
"$program" restore -f -o standby.db "file://$work/replica" 2>follow.log &
lsfast=$!
# until COMMAND...: for a minute at most.
until_true() {
  tries=0
  until "$@"; do
    tries=$((tries + 1))
    [ "$tries" -lt 600 ] || { cat follow.log >&2; echo "not true after a minute: $*" >&2; exit 1; }
    kill -0 "$lsfast" || { cat follow.log >&2; exit 1; }
    sleep 0.1
  done
}
has() { [ "$(sqlite3 -readonly standby.db 'SELECT group_concat(x) FROM t' 2>/dev/null)" = "$1" ]; }
until_true has first
sqlite3 app.db "INSERT INTO t VALUES ('second')"
"$program" replicate --once app.db "file://$work/replica"
until_true has first,second
kill "$lsfast"
wait "$lsfast" || true
lsfast=
"$program" promote standby.db
sqlite3 standby.db "PRAGMA integrity_check" | grep -qx ok
echo "built from the package alone: replicate, restore, restore -f and promote work"
