#!/usr/bin/env bash
# A soak: mixed load, kills, outages, a standby and restores for hours; see scripts/soak.sh --help.
#
#   scripts/soak.sh 24           a day
#   scripts/soak.sh 0.2          twelve minutes
set -euo pipefail
export PYTHONPATH="$(dirname "$0")"
exec python3 -m soak "$@"
