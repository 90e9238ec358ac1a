#!/usr/bin/env bash
# scripts/bench.py restore, with the same options.
exec python3 "$(dirname "$0")/bench.py" restore "$@"
