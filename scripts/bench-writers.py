#!/usr/bin/env python3
"""Several writers, and applications that checkpoint by themselves: alone, and beside lsfast or Litestream, in turns.

    cargo build --release
    scripts/bench-writers.py [--loads four,truncate] [--peers alone,reader,lsfast] [--seconds 5] [--rounds 3]

Each writer is a process of its own: a commit inserts a row and updates another one. `reader` is an ordinary second
connection, which reads a few rows 100 times a second: what any other program costs. Tools replicate to a directory.

Prints medians of the rounds: commits, commits to alone, transactions that SQLite refused (SQLITE_BUSY), the longest commit,
checkpoints of the application that succeeded (busy = 0), the largest size of the WAL, processor time of the tool.
"""
import argparse
import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROWS = 3000
LOOK_EVERY = 0.02

# writers, pause between the commits of each, readers that overlap, wal_autocheckpoint, and the checkpoints of a
# connection of the application's own: mode, seconds between two of them, its busy timeout.
EXPLICIT = {"writers": 1, "pause": 0.05}
LOADS = {
    "single": {"writers": 1, "timeout": 0, "help": "one writer without a pause and without a busy timeout"},
    "auto100": {"writers": 1, "auto": 100, "timeout": 0, "help": "the same with wal_autocheckpoint=100"},
    "passive": EXPLICIT | {"mode": "PASSIVE", "every": 0.1, "help": "20 commits/s, and a PASSIVE checkpoint each 0.1 s"},
    "full": EXPLICIT | {"mode": "FULL", "every": 0.1, "help": "the same with FULL"},
    "restart": EXPLICIT | {"mode": "RESTART", "every": 0.1, "help": "the same with RESTART"},
    "truncate": EXPLICIT | {"mode": "TRUNCATE", "every": 0.1, "help": "the same with TRUNCATE"},
    "own": {"writers": 1, "pause": 0.02, "after": "TRUNCATE", "auto": 0,
            "help": "a TRUNCATE checkpoint by the writer itself after each commit, 50 commits/s"},
    "restart-loop": {"writers": 1, "readers": 2, "auto": 0, "mode": "RESTART", "every": 0.0,
                     "help": "RESTART in a loop, overlapping readers, wal_autocheckpoint=0"},
    "full-two": {"writers": 2, "mode": "FULL", "every": 0.1, "help": "two writers without a pause, FULL each 0.1 s"},
    "truncate-four": {"writers": 4, "readers": 1, "mode": "TRUNCATE", "every": 0.5, "ckpt_timeout": 10,
                      "help": "four writers without a pause, TRUNCATE twice a second with a busy timeout of 10 s"},
    "two": {"writers": 2, "help": "two writers without a pause"},
    "four": {"writers": 4, "counts": 200, "help": "four writers without a pause, which count the rows now and then"},
    "four-half": {"writers": 4, "counts": 200, "pause": 0.0005, "help": "the same with pauses of 0.5 ms"},
    "eight": {"writers": 8, "counts": 200, "help": "eight writers without a pause"},
}


def main():
    listed = "\n".join(f"  {name:14} {load['help']}" for name, load in LOADS.items())
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\nloads:\n{listed}", formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loads", default="passive,truncate,restart-loop,full-two,four", metavar="LIST")
    parser.add_argument("--peers", default="alone,reader,lsfast", metavar="LIST", help="also litestream, and any further name given by --tool")
    parser.add_argument("--tool", action="append", default=[], metavar="NAME=PATH", help="another lsfast to compare with")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--synchronous", default="normal", choices=("off", "normal", "full"))
    parser.add_argument("--checkpoint-timeout", type=float, metavar="S", help="busy timeout of the connection that checkpoints [0]")
    parser.add_argument("--dir", default=str(ROOT / "target"), help="where databases and replicas are made [target]")
    parser.add_argument("--lsfast", default=str(ROOT / "target/release/lsfast"), metavar="PATH")
    parser.add_argument("--litestream", default=str(ROOT / "target/peers/litestream"), metavar="PATH")
    parser.add_argument("--log", metavar="FILTER", help="keep the logs of lsfast at this level, e.g. trace, in --dir")
    parser.add_argument("--json", metavar="FILE", help="also write each run there")
    options = parser.parse_args()
    binaries = {"lsfast": options.lsfast, "litestream": options.litestream}
    binaries |= dict(tool.split("=", 1) for tool in options.tool)
    loads, peers = options.loads.split(","), options.peers.split(",")
    unknown = [n for n in loads if n not in LOADS] + [p for p in peers if p not in ("alone", "reader", *binaries)]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}")
    results = []
    for number in range(options.rounds):
        for name in loads:
            # Each peer comes first in another round.
            turn = number % len(peers)
            for peer in peers[turn:] + peers[:turn]:
                work = Path(tempfile.mkdtemp(prefix="writers-", dir=options.dir))
                try:
                    found = run(options, LOADS[name], work, peer, binaries.get(peer), f"{name}-{peer}-{number}")
                finally:
                    shutil.rmtree(work)
                results.append({"load": name, "peer": peer, "round": number, **found})
                print(f"  round {number + 1}: {name}, {peer}: {json.dumps(found)}", file=sys.stderr, flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1))
    show(loads, peers, results)


def run(options, load, work, peer, binary, label):
    db = str(work / "app.db")
    first = sqlite3.connect(db)
    first.executescript("pragma journal_mode=wal; create table t(id integer primary key, n integer, body blob)")
    with first:
        first.executemany("insert into t values(?, 0, randomblob(200))", ((i,) for i in range(ROWS)))
    first.execute("pragma wal_checkpoint(TRUNCATE)")
    first.close()
    tool = start(options, peer, binary, db, work, label)
    kids = [child(writer, db, load, options, seed) for seed in range(load["writers"])]
    kids += [child(reads, db, options, 0, seed) for seed in range(load.get("readers", 0))]
    if load.get("mode"):
        kids.append(child(checkpoints, db, load, options))
    if peer == "reader":
        kids.append(child(reads, db, options, 0.01, 99))
    wal, until = 0, time.monotonic() + options.seconds + 0.2
    while time.monotonic() < until:
        try:
            wal = max(wal, os.stat(db + "-wal").st_size)
        except FileNotFoundError:
            pass
        time.sleep(LOOK_EVERY)
    parts = [join(kid) for kid in kids]
    total = lambda key: sum(part.get(key, 0) for part in parts)
    found = {"commits": total("commits"), "errors": total("errors"), "worst_ms": round(max(p.get("worst", 0) for p in parts) * 1e3, 1),
             "ckpts": total("ckpts"), "ok": total("ok"), "whole": total("whole"), "wal_mb": round(wal / 1e6, 2)}
    if tool:
        tool.send_signal(signal.SIGTERM)
        _, _, usage = os.wait4(tool.pid, 0)
        tool.returncode = 0
        found["cpu"] = round(usage.ru_utime + usage.ru_stime, 2)
        found |= warned(work)
        if options.log:
            shutil.copy(work / "log", Path(options.dir) / f"{label}.log")
    return found


def start(options, peer, binary, db, work, label):
    """The tool, once it has stored the first image."""
    if not binary:
        return None
    with open(work / "log", "wb") as log:
        words = [binary, "replicate", db, f"file://{work}/replica"]
        if options.log and peer != "litestream":
            words += ["--log-level", options.log]
        tool = subprocess.Popen(words, stdout=log, stderr=log)
    until = time.monotonic() + 30
    while not any((work / "replica").rglob("*.ltx")):
        if tool.poll() is not None or time.monotonic() > until:
            sys.exit(f"bench-writers: {peer} does not start: {(work / 'log').read_text()}")
        time.sleep(0.05)
    time.sleep(0.5)
    return tool


def warned(work):
    """How often lsfast could not prove that it saw each commit."""
    text = (work / "log").read_text(errors="replace")
    lost = text.count("continuity of the WAL is not proven")
    return {"lost": lost} if lost else {}


def child(what, *words):
    """Runs a function in a process of its own; its result comes through a pipe."""
    out, into = os.pipe()
    pid = os.fork()
    if pid:
        os.close(into)
        return pid, out
    status = 1
    try:
        os.close(out)
        # The end of the parent ends it too.
        os.write(into, json.dumps(what(*words)).encode())
        status = 0
    finally:
        os._exit(status)


def join(kid):
    pid, out = kid
    with open(out, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    if not answer:
        sys.exit("bench-writers: a process of the application failed")
    return json.loads(answer)


def connect(db, options, timeout, auto=None):
    c = sqlite3.connect(db, timeout=timeout, isolation_level=None)
    c.execute(f"pragma synchronous={options.synchronous}")
    if auto is not None:
        c.execute(f"pragma wal_autocheckpoint={auto}")
    c.execute("select count(*) from t").fetchone()
    return c


def writer(db, load, options, seed):
    r = random.Random(seed)
    timeout = load.get("timeout", 10)
    c = connect(db, options, timeout, load.get("auto"))
    pause, counts, after = load.get("pause", 0), load.get("counts"), load.get("after")
    commits, errors, worst, ckpts, ok, whole = 0, 0, 0.0, 0, 0, 0
    until = time.monotonic() + options.seconds
    now = time.monotonic()
    while now < until:
        try:
            c.execute("begin immediate")
            c.execute("insert into t(n, body) values(?, randomblob(200))", (commits,))
            c.execute("update t set n = n + 1 where id = ?", (r.randrange(ROWS),))
            c.execute("commit")
            commits += 1
        except sqlite3.OperationalError:
            errors += 1
            if c.in_transaction:
                c.execute("rollback")
        done = time.monotonic()
        worst = max(worst, done - now)
        if after:
            busy, log, copied = c.execute(f"pragma wal_checkpoint({after})").fetchone()
            ckpts, ok, whole = ckpts + 1, ok + (not busy), whole + (not busy and log == copied)
        if counts and r.randrange(counts) == 0:
            c.execute("select count(*), sum(n) from t where id < ?", (ROWS,)).fetchone()
        if pause:
            time.sleep(pause)
        now = time.monotonic()
    return {"commits": commits, "errors": errors, "worst": worst, "ckpts": ckpts, "ok": ok, "whole": whole}


def reads(db, options, pause, seed):
    r = random.Random(seed)
    c = connect(db, options, 10)
    until = time.monotonic() + options.seconds
    while time.monotonic() < until:
        if pause:
            c.execute("select * from t where id between ? and ?", (n := r.randrange(ROWS), n + 20)).fetchall()
            time.sleep(pause)
        else:
            c.execute("select count(*), sum(length(body)) from t where id < ?", (ROWS,)).fetchone()
    return {}


def checkpoints(db, load, options):
    timeout = options.checkpoint_timeout if options.checkpoint_timeout is not None else load.get("ckpt_timeout", 0)
    c = connect(db, options, timeout)
    ckpts, ok, whole = 0, 0, 0
    until = time.monotonic() + options.seconds
    while time.monotonic() < until:
        try:
            busy, log, copied = c.execute(f"pragma wal_checkpoint({load['mode']})").fetchone()
        except sqlite3.OperationalError:
            busy, log, copied = 1, 0, 0
        ckpts, ok, whole = ckpts + 1, ok + (not busy), whole + (not busy and log == copied)
        if load["every"]:
            time.sleep(load["every"])
    return {"ckpts": ckpts, "ok": ok, "whole": whole}


def show(loads, peers, results):
    print("\n| load | | commits | to alone | refused | longest commit ms | checkpoints ok | WAL MB | CPU s |\n|---|---|---|---|---|---|---|---|---|")
    for load in loads:
        of = lambda peer: [r for r in results if r["load"] == load and r["peer"] == peer]
        middle = lambda peer, key: statistics.median(r.get(key, 0) for r in of(peer))
        alone = {r["round"]: r["commits"] for r in of("alone")}
        for peer in peers:
            ratios = [r["commits"] / alone[r["round"]] for r in of(peer) if alone.get(r["round"])]
            ratio = f"{statistics.median(ratios):.2f}" if ratios else ""
            ckpts = f"{middle(peer, 'ok'):.0f} of {middle(peer, 'ckpts'):.0f}" if middle(peer, "ckpts") else ""
            cpu = f"{middle(peer, 'cpu'):.1f}" if any("cpu" in r for r in of(peer)) else ""
            print(f"| {load if peer == peers[0] else ''} | {peer} | {middle(peer, 'commits'):.0f} | {ratio} | {middle(peer, 'errors'):.0f} "
                  f"| {middle(peer, 'worst_ms'):.1f} | {ckpts} | {middle(peer, 'wal_mb'):.1f} | {cpu} |")


if __name__ == "__main__":
    main()
