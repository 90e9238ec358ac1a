#!/usr/bin/env bash
# Simulation by seed, run by hand: SQLite, lsfast and a store in which everything fails, by a clock that jumps over waits.
#
#   scripts/simulate.sh                          seeds 1 to 1000
#   scripts/simulate.sh --seeds 10000            as many
#   scripts/simulate.sh --from 37 --seeds 1      seed 37 alone
#   scripts/simulate.sh --seconds 600 ...        begins none after ten minutes
#   scripts/simulate.sh --tell ...               what happens in each as it happens, and each request
#   scripts/simulate.sh --trace ...              the same, and each line of the log
#   scripts/simulate.sh --optimize ...           lsfast is compiled with optimizations: longer to build, faster to run
#
# The last lines are a summary, and for each seed that fails why, and the command that runs it again.
set -euo pipefail
cd "$(dirname "$0")/.."
seeds=1000
from=1
config=()
while [ $# -gt 0 ]; do
    case "$1" in
        --seeds) seeds="$2" && shift ;;
        --from) from="$2" && shift ;;
        --seconds) export LSFAST_SIM_SECONDS="$2" && shift ;;
        --tell) export LSFAST_SIM_TELL=1 ;;
        --trace) export LSFAST_SIM_TELL=1 LSFAST_SIM_TRACE=1 ;;
        --optimize) config=(--config profile.dev.package.lsfast.opt-level=2) ;;
        *) echo "scripts/simulate.sh: unknown argument $1; see the head of the script" >&2 && exit 2 ;;
    esac
    shift
done
export LSFAST_SIM_SEEDS="$from-$((from + seeds - 1))"
exec cargo test "${config[@]}" --test sim histories -- --exact --nocapture
