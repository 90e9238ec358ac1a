#!/usr/bin/env bash
# scripts/bench.py snapshot, with the same options.
exec python3 "$(dirname "$0")/bench.py" snapshot "$@"
