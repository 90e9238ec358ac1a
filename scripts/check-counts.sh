#!/usr/bin/env bash
# Counts what must not grow (instructions, allocations, requests, system calls) and compares it with benches/counts/bounds.md.
# What is counted, how to look at what grew, how to move a bound: docs/performance.md, "Guard against slipping".
#
#   scripts/check-counts.sh                        everything
#   scripts/check-counts.sh pipeline               one part: kernels, pipeline, system-calls
#   scripts/check-counts.sh --bless [PART]...      moves the bounds to what is counted now
#
# Instructions need valgrind, system calls strace and the right to trace; what is missing is skipped, and said.
set -euo pipefail
cd "$(dirname "$0")/.."

# The compiler's incremental mode cuts the code into other pieces, which changes what is inlined.
export CARGO_INCREMENTAL=0
exec cargo test --quiet --config scripts/counts.toml --bench counts -- --check "$@"
