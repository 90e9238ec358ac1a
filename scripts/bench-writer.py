#!/usr/bin/env python3
"""What an application notices of lsfast: one writer in a closed loop, alone and beside `lsfast replicate`, in turns.

    cargo build --release && scripts/bench-writer.py [--seconds 4] [--rounds 3] [--lsfast PATH] [--url URL]

Prints medians of the rounds: commits a second, their ratio, the latencies, and the largest log. Without --url the replica
is a directory beside the database.
"""
import argparse
import os
import pathlib
import signal
import sqlite3
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


def write(db, seconds, rows):
    """Commits as fast as it can; returns the number of commits, their latencies and the largest size of the log."""
    app = sqlite3.connect(db, isolation_level=None, timeout=0)
    app.execute("pragma synchronous=%s" % write.synchronous)
    latencies, largest, busy = [], 0, 0
    begun = last = time.perf_counter()
    while last - begun < seconds:
        try:
            if rows == 1:
                app.execute("insert into t(x) values(?)", ("y" * 200,))
            else:
                app.execute("begin")
                app.executemany("insert into t(x) values(?)", [("y" * 200,)] * rows)
                app.execute("commit")
        except sqlite3.OperationalError:
            busy += 1
        now = time.perf_counter()
        latencies.append(now - last)
        last = now
        if len(latencies) % 2000 == 0:
            largest = max(largest, os.path.getsize(db + "-wal"))
    largest = max(largest, os.path.getsize(db + "-wal"))
    app.close()
    return len(latencies), latencies, largest, busy


def run(options, synchronous, rows, beside):
    """One round; returns its figures."""
    write.synchronous = synchronous
    with tempfile.TemporaryDirectory(dir=options.dir) as place:
        db = os.path.join(place, "app.db")
        app = sqlite3.connect(db, isolation_level=None)
        app.execute("pragma journal_mode=wal")
        app.execute("create table t(id integer primary key, x)")
        process = None
        if beside:
            log = open(os.path.join(place, "log"), "w+")
            url = options.url or "file://" + os.path.join(place, "replica")
            process = subprocess.Popen([options.lsfast, "replicate", db, url], stderr=log, stdout=log)
            while "image stored" not in open(log.name).read():
                if process.poll() is not None:
                    raise SystemExit("lsfast ended: " + open(log.name).read())
                time.sleep(0.02)
        count, latencies, largest, busy = write(db, options.seconds, rows)
        cpu = lost = 0
        if process:
            fields = open(f"/proc/{process.pid}/stat").read().rsplit(")", 1)[1].split()
            cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            process.send_signal(signal.SIGTERM)
            if process.wait() != 0:
                raise SystemExit("lsfast ended badly: " + open(log.name).read())
            lost = open(log.name).read().count("is not proven")
        latencies.sort()
        return {
            "rate": count / options.seconds,
            "p50": latencies[len(latencies) // 2] * 1e6,
            "p999": latencies[int(len(latencies) * 0.999)] * 1e3,
            "max": latencies[-1] * 1e3,
            "wal": largest / 1e6,
            "cpu": cpu / (count * rows) * 1e6,
            "busy": busy,
            "lost": lost,
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lsfast", default=str(ROOT / "target/release/lsfast"))
    parser.add_argument("--url")
    parser.add_argument("--dir", default=str(ROOT / "target"))
    options = parser.parse_args()
    print("| synchronous, rows | commits/s alone | beside lsfast | ratio | p50 us | p99.9 ms | longest ms | log MB | busy | CPU us/row | unproven |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for synchronous, rows in [("off", 1), ("normal", 1), ("full", 1), ("normal", 100), ("full", 100)]:
        rounds = [(run(options, synchronous, rows, False), run(options, synchronous, rows, True)) for _ in range(options.rounds)]

        def median(key, side):
            return statistics.median(r[side][key] for r in rounds)

        def pair(key, form):
            return form % median(key, 0) + " / " + form % median(key, 1)

        ratio = statistics.median(b["rate"] / a["rate"] for a, b in rounds)
        busy = sum(b["busy"] for _, b in rounds)
        lost = sum(b["lost"] for _, b in rounds)
        print(
            f"| {synchronous}, {rows} | {median('rate', 0):.0f} | {median('rate', 1):.0f} | {ratio:.2f} | {pair('p50', '%.0f')} | "
            f"{pair('p999', '%.1f')} | {pair('max', '%.0f')} | {pair('wal', '%.1f')} | {busy} | {median('cpu', 1):.1f} | {lost} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
