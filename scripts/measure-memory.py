#!/usr/bin/env python3
"""Peak memory of lsfast for a database of any size: one transaction, images of each kind, verify, restore.

    cargo build --release
    scripts/measure-memory.py [--gigabytes 100] [--restore-gigabytes 40] [--transaction-gigabytes 0.4] [--dir target] [--lsfast target/release/lsfast]

The database is sparse: a small one whose header says that it has so many pages of 4096 bytes more, all of them zeros. They are read,
hashed, compressed, indexed, stored and restored like any others, so memory is what a full one would need, but the replica
is small. The rows of the transaction are random, so that it is stored as long as it is. The restored copy is not sparse; --restore-gigabytes says how large the second database is that is restored.
Everything is removed in the end.
"""
import argparse
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = 4096


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=100)
    parser.add_argument("--restore-gigabytes", type=float, default=40)
    parser.add_argument("--transaction-gigabytes", type=float, default=0.4)
    parser.add_argument("--dir", default=str(ROOT / "target"), help="where databases and replicas are made [target]")
    parser.add_argument("--lsfast", default=str(ROOT / "target/release/lsfast"), metavar="PATH")
    options = parser.parse_args()
    free = shutil.disk_usage(options.dir).free
    if free < options.restore_gigabytes * 1.1e9 + 4e9:
        sys.exit(f"measure-memory: {free / 1e9:.0f} GB are free in {options.dir}, too few to restore {options.restore_gigabytes:g} GB")
    work = Path(tempfile.mkdtemp(prefix="memory-", dir=options.dir))
    try:
        measure(options, work)
    finally:
        shutil.rmtree(work)


def measure(options, work):
    print("| step | database GB | seconds | peak RSS MB |\n|---|---|---|---|")
    if options.transaction_gigabytes > 0:
        transaction(options, work)
    for size, restores in ((options.gigabytes, False), (options.restore_gigabytes, True)):
        if size <= 0:
            continue
        db, replica, out = work / "app.db", f"file://{work}/replica", work / "out.db"
        app = make(db, size)
        lsfast = lambda step, *words: run(step, size, [options.lsfast, *words, "--log-level", "warn"])
        lsfast("first image", "replicate", str(db), replica, "--once")
        app.execute("insert into t(x) values('two')")
        lsfast("a commit, and an image of what the store has", "replicate", str(db), replica, "--once", "--force-snapshot")
        image_from_database(options, work, db, size, app)
        app.close()
        lsfast("verify", "verify", replica)
        if restores:
            lsfast("restore", "restore", replica, "-o", str(out), "--integrity-check", "none")
            have = sqlite3.connect(out).execute("select group_concat(x) from t").fetchone()[0]
            if have != "one,two" or out.stat().st_size != db.stat().st_size:
                sys.exit(f"measure-memory: the restored database has {have}, {out.stat().st_size} bytes")
        for path in work.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def make(path, gigabytes):
    """A database with so many pages; an open connection to it in WAL mode."""
    app = sqlite3.connect(path, isolation_level=None)
    app.executescript(f"pragma page_size={PAGE}; create table t(id integer primary key, x); insert into t(x) values('one')")
    app.close()
    pages = int(gigabytes * 1e9) // PAGE
    with open(path, "r+b") as file:
        file.truncate(pages * PAGE)
        file.seek(28)
        file.write(pages.to_bytes(4, "big"))
    app = sqlite3.connect(path, isolation_level=None)
    app.execute("pragma journal_mode=wal").fetchone()
    app.execute("select count(*) from t").fetchone()
    return app


def transaction(options, work):
    """One transaction that SQLite spills to the WAL long before its commit, then its upload."""
    db, rows = work / "app.db", int(options.transaction_gigabytes * 1e9) // PAGE
    app = make(db, 0.001)
    raw = work / "replica/ltx/0"
    stored = lambda: len([p for p in raw.iterdir() if p.suffix == ".ltx"]) if raw.is_dir() else 0

    def commit(child):
        while stored() == 0 and child.poll() is None:
            time.sleep(0.05)
        app.execute("pragma cache_size=200")
        numbers = f"with recursive n(i) as (select 1 union all select i + 1 from n limit {rows})"
        app.execute(f"insert into t(x) {numbers} select randomblob(3900) from n")
        while stored() < 2 and child.poll() is None:
            time.sleep(0.05)
        child.terminate()

    command = [options.lsfast, "replicate", str(db), f"file://{work}/replica", "--log-level", "warn"]
    run("one transaction", options.transaction_gigabytes, command, commit)
    app.close()
    for path in work.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def image_from_database(options, work, db, size, app):
    """lsfast as it always runs, until it has written an image of the live database."""
    config = work / "lsfast.yml"
    config.write_text(f"snapshot: {{interval: 2s}}\ndbs:\n  - path: {db}\n    replica: {{type: file, path: {work}/replica}}\n")
    images = lambda: {p for p in (work / "replica/ltx/9").iterdir() if p.suffix == ".ltx"}
    before = images()

    def ends(child):
        number = 0
        while not images() - before:
            number += 1
            app.execute(f"pragma user_version={number}")
            if child.poll() is not None:
                return
            time.sleep(0.5)
        child.terminate()

    run("an image of the live database", size, [options.lsfast, "replicate", "--config", str(config), "--log-level", "warn"], ends)


def run(step, size, command, meanwhile=lambda child: None):
    begun = time.monotonic()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    meanwhile(child)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        sys.exit(f"measure-memory: {' '.join(command)} ended with {child.returncode}")
    print(f"| {step} | {size:g} | {time.monotonic() - begun:.0f} | {usage.ru_maxrss * 1024 / 1e6:.0f} |", flush=True)


if __name__ == "__main__":
    main()
