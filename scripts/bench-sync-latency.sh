#!/usr/bin/env bash
# scripts/bench.py latency, with the same options.
exec python3 "$(dirname "$0")/bench.py" latency "$@"
