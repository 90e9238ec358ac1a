#!/usr/bin/env python3
"""What a restore costs by each of several builds of lsfast, which take turns: processor time, time, memory.

    scripts/measure-restores.py URL BINARY... [--rounds 15] [--out target/restored.db] [-- OPTION...]

URL is a replica that is there, as `lsfast replicate --once DB URL` makes one. Where it is a directory, the first round, which does
not count, brings it into the page cache. Each round begins when all that is to be written is on the disk. OPTIONs go to `restore`.
"""
import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


def restore(binary, url, out, more):
    out.unlink(missing_ok=True)
    os.sync()
    begun = time.monotonic()
    child = subprocess.Popen([binary, "restore", *more, "-o", out, url], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.monotonic() - begun
    child.returncode = os.waitstatus_to_exitcode(status)
    if status:
        sys.exit(f"{binary}: {said.decode(errors='replace')}")
    return usage.ru_utime + usage.ru_stime, usage.ru_utime, usage.ru_stime, seconds, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", metavar="URL")
    parser.add_argument("binaries", nargs="+", metavar="BINARY")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "target/restored.db", metavar="PATH")
    before, _, more = " ".join(sys.argv[1:]).partition(" -- ")
    options = parser.parse_args(before.split())
    rows = {binary: [] for binary in options.binaries}
    for number in range(options.rounds + 1):
        for binary in options.binaries if number % 2 else options.binaries[::-1]:
            row = restore(binary, options.url, options.out, more.split())
            if number:
                rows[binary].append(row)
    size = options.out.stat().st_size
    options.out.unlink()
    print(f"{size / 1e6:.0f} MB, {options.rounds} rounds; medians, load {os.getloadavg()[0]:.0f}\n")
    print("| | CPU s | least | of the first | for each 10^9 bytes | user, system s | s | peak RSS MiB |")
    print("|---|---|---|---|---|---|---|---|")
    first = None
    for binary, measured in rows.items():
        cpu, user, system, seconds, _ = (statistics.median(column) for column in zip(*measured))
        first = first or cpu
        least, rss = min(row[0] for row in measured), max(row[4] for row in measured)
        print(
            f"| {binary} | {cpu:.3f} | {least:.3f} | {cpu / first:.3f} | {cpu / size * 1e9:.3f} "
            f"| {user:.3f}, {system:.3f} | {seconds:.2f} | {rss:.0f} |"
        )


if __name__ == "__main__":
    main()
