#!/usr/bin/env bash
# Checks and tests everything; works on a fresh clone. Ends with a line `N passed, N failed`.
#
#   scripts/test.sh              everything
#   FUZZ_SECONDS=60 ...          longer fuzzing of each target (5 without it, 0 for none)
#   FUZZ_SEED=123 ...            the seed of an earlier run, which prints it
set -uo pipefail
cd "$(dirname "$0")/.."

fuzz_seconds="${FUZZ_SECONDS:-5}"
# libFuzzer takes a seed of 32 bits, and 0 for one of its own.
fuzz_seed="${FUZZ_SEED:-$(($(od -An -N4 -tu4 /dev/urandom) % 4294967295 + 1))}"
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
failed_steps=()
passed=0
failed=0

say() { printf '\n==> %s\n' "$*"; }

# step NAME COMMAND...: goes on after a failure, so that one run shows all of them.
step() {
    local name="$1"
    shift
    say "$name"
    if ! "$@"; then
        failed_steps+=("$name")
    fi
}

# count LINES: adds up the numbers before `passed`, `failed` and `timed out` in the lines of the log that match.
count() {
    local lines
    lines="$(grep -E "$1" "$log")"
    passed=$((passed + $(grep -oE '[0-9]+ passed' <<<"$lines" | awk '{n += $1} END {print n + 0}')))
    failed=$((failed + $(grep -oE '[0-9]+ (exec )?(failed|timed out)' <<<"$lines" | awk '{n += $1} END {print n + 0}')))
}

doc_tests() {
    cargo test --doc --quiet 2>&1 | tee "$log"
    local status=$?
    count '^test result: '
    return $status
}

counts() {
    scripts/check-counts.sh 2>&1 | tee "$log"
    local status=$?
    count '^counts: '
    return $status
}

# Some seconds of each fuzz target, from the inputs made of the test vectors, with another seed in each run. A run can be
# repeated by the command that it prints; libFuzzer leaves the input that fails in fuzz/artifacts.
fuzz_smoke() {
    local target
    python3 fuzz/corpus.py || return 1
    for target in $(cd fuzz && cargo +nightly fuzz list); do
        echo "fuzz: $target, $fuzz_seconds s, seed $fuzz_seed"
        cargo +nightly fuzz run "$target" --sanitizer none -- \
            -seed="$fuzz_seed" -max_total_time="$fuzz_seconds" -rss_limit_mb=2048 -verbosity=0 -print_final_stats=0 >"$log" 2>&1 || {
            tail -40 "$log"
            echo "fuzz: to repeat it: python3 fuzz/corpus.py && cargo +nightly fuzz run $target --sanitizer none --" \
                "-seed=$fuzz_seed -max_total_time=$fuzz_seconds -rss_limit_mb=2048"
            return 1
        }
    done
}

all_tests() {
    if cargo nextest --version >/dev/null 2>&1; then
        cargo nextest run --no-tests=fail 2>&1 | tee "$log"
        local status=$?
        count '^ *Summary \['
        return $status
    fi
    echo "cargo-nextest is missing (cargo install cargo-nextest --locked): running with cargo test"
    cargo test --no-fail-fast --lib --bins --tests 2>&1 | tee "$log"
    local status=$?
    count '^test result: '
    return $status
}

step "peers: the real programs, by their package clients" scripts/fetch-peers.sh
step "format" cargo fmt --check
# Without tests and benches the modules are closed, and the compiler finds what the program does not use.
step "lints of the program" cargo clippy --quiet -- -D warnings
step "lints" cargo clippy --all-targets --quiet -- -D warnings
step "lints without io_uring" cargo clippy --no-default-features --quiet -- -D warnings
step "lints of the extension" cargo clippy -p lsfast-extension --quiet -- -D warnings
step "documentation" env RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" cargo doc --no-deps --document-private-items --quiet
step "documentation tests" doc_tests
step "dependencies: licences, bans, sources, vulnerabilities" scripts/check-deny.sh

step "counts against their bounds" counts

if [ "$fuzz_seconds" = 0 ]; then
    say "fuzz: SKIPPED, FUZZ_SECONDS is 0"
elif [ ! -d fuzz ]; then
    say "fuzz: SKIPPED, there is no folder fuzz"
elif ! cargo +nightly --version >/dev/null 2>&1; then
    say "fuzz: SKIPPED, there is no nightly toolchain"
elif ! cargo fuzz --version >/dev/null 2>&1; then
    say "fuzz: SKIPPED, cargo-fuzz is missing (cargo install cargo-fuzz --locked)"
else
    step "fuzz: $fuzz_seconds s for each target" fuzz_smoke
fi

step "tests" all_tests

# With the program that the tests have built. Skipped where there is no Prometheus.
step "alert rules and dashboard" scripts/check-monitoring.py

if [ ${#failed_steps[@]} -gt 0 ]; then
    printf '\nfailed: %s\n' "${failed_steps[@]}"
    # A step that is no test counts as one failure, so that the last line never says all is well.
    [ "$failed" -gt 0 ] || failed=${#failed_steps[@]}
fi
printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
