#!/usr/bin/env bash
# scripts/bench.py fleet, with the same options.
exec python3 "$(dirname "$0")/bench.py" fleet "$@"
