#!/usr/bin/env bash
# The guard stress run by hand: lsfast beside hostile writers, killed at random, restored and compared.
#
#   scripts/stress.sh            seeds 1 to 500
#   scripts/stress.sh 50         seeds 1 to 50
#   scripts/stress.sh 37-37      seed 37 alone
#
# LSFAST_STRESS_JOBS=N runs N at once (2 without it). A failed run leaves its folder and names it.
set -euo pipefail
cd "$(dirname "$0")/.."
export LSFAST_STRESS_SEEDS="${1:-500}"
exec cargo test --release --test it stress:: -- --nocapture --test-threads=1
