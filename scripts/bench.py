#!/usr/bin/env python3
"""lsfast beside Litestream and beside the limits of the machine, all measured in one run, the tools in turns.

    scripts/fetch-peers.sh && cargo build --release
    scripts/bench.py latency | wait | writer | snapshot | restore | fleet  [options]

The store is MinIO (from PATH or MINIO_BIN), else SeaweedFS (fetched), or --dir for a directory, or --endpoint with --bucket
and keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Tools: lsfast (lsfast-fast: with
sync-interval 0); Litestream 0.5 with its defaults, and told to look and upload every millisecond (0.5-fast); Litestream 0.3. Prints tables (medians of the rounds), writes JSON and SVG to --out. Everything that was
started ends with it, everything that was written but the results is removed.
"""
import argparse
import sys

if sys.version_info < (3, 9):
    sys.exit("bench: Python 3.9 or newer is needed")

from bench import fleet, latency, restore, snapshot, wait, writer
from bench.children import Failed
from bench.store import ROOT

COMMANDS = {"latency": latency, "wait": wait, "writer": writer, "snapshot": snapshot, "restore": restore, "fleet": fleet}

THROUGH_PROXY = ("latency", "wait", "writer", "fleet")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    forms = {}
    for name, module in COMMANDS.items():
        form = argparse.RawDescriptionHelpFormatter
        command = commands.add_parser(name, help=module.HELP, description=module.__doc__, formatter_class=form)
        forms[name] = command
        common(command)
        module.arguments(command)
    options = parser.parse_args()
    if options.quick_run:
        for field, value in options.quick.items():
            if getattr(options, field) == forms[options.command].get_default(field):
                setattr(options, field, value)
    for field in ("rounds", "seconds"):
        if getattr(options, field) is None:
            setattr(options, field, getattr(options, "default_" + field))
    if options.tls and options.command not in THROUGH_PROXY:
        sys.exit(f"bench: --tls is for {', '.join(THROUGH_PROXY)}: {options.command} is timed without the proxy that speaks it")
    try:
        COMMANDS[options.command].run(options)
    except Failed as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit("bench: interrupted; everything that was started is ended and removed")


def common(parser):
    parser.add_argument("--lsfast", default=str(ROOT / "target/release/lsfast"), metavar="PATH", help="[target/release/lsfast]")
    parser.add_argument("--tools", metavar="LIST", help="of lsfast,lsfast-fast,0.5,0.5-fast,0.3, by commas [all that are there, but for lsfast-fast]")
    parser.add_argument("--rounds", type=int, help="how often each tool gets its turn")
    parser.add_argument("--seconds", type=float, help="how long one turn writes")
    parser.add_argument("--quick", dest="quick_run", action="store_true", help="small sizes, one round: shows that it works, not how fast")
    parser.add_argument("--store", choices=["minio", "weed"], help="which of them to start [minio, else weed]")
    parser.add_argument("--endpoint", metavar="URL", help="a server that is there")
    parser.add_argument("--bucket", help="its bucket")
    parser.add_argument("--dir", nargs="?", const="", metavar="PATH", help="replicas in a directory")
    parser.add_argument("--rtt", type=float, default=0, metavar="MS", help="round trip that the proxy adds: latency, wait, writer, fleet [0]")
    parser.add_argument("--tls", action="store_true", help="the tools talk TLS with the proxy: latency, wait, writer, fleet; needs openssl")
    parser.add_argument("--work", default=str(ROOT / "target"), metavar="PATH", help="where the databases are made [target]")
    parser.add_argument("--out", default=str(ROOT / "target/bench"), metavar="PATH", help="where JSON and SVG go [target/bench]")


if __name__ == "__main__":
    main()
