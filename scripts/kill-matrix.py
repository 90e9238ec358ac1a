#!/usr/bin/env python3
"""Kills lsfast at each system call of its way from a commit to the stored file, and checks that nothing is lost.

    scripts/kill-matrix.py                       every system call, each time it is made
    scripts/kill-matrix.py --seconds 600         ends after ten minutes, and says how far it came
    scripts/kill-matrix.py --calls rename,fsync  these calls alone
    scripts/kill-matrix.py --stride 7            each seventh time of a call
    scripts/kill-matrix.py --shuffle SEED        in an order of that seed
    scripts/kill-matrix.py --rounds 4            each moment four times

It needs strace, and `target/debug/lsfast` or the program that LSFAST names.

A first run counts the calls that each thread makes from the start of `lsfast replicate` over some commits to its end.
Then, for each call and each n, lsfast is started under strace, which kills it (SIGKILL) when a thread makes that call
for the nth time. The application commits meanwhile and afterwards, on one connection without a busy timeout. After
each kill `lsfast replicate --once` must end with success, a restore must be equal to the database row by row, and
SQLite must find it whole. A statement of the application that fails counts as a difference, too.

The last lines say how many kills there were, at how many calls, and the differences. The exit code is 1 if there are
any; the folder of the first is kept, and named.
"""

import argparse
import collections
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LSFAST = os.environ.get("LSFAST", str(ROOT / "target/debug/lsfast"))

# Commits while lsfast runs, and the pause after each.
COMMITS = 12
PAUSE = 0.01
# How long lsfast goes on when it has stored a commit, in seconds.
LIVES = 0.15
# How long lsfast may take for anything on a busy machine, in seconds.
PATIENCE = 120
# What waits, or asks for nothing but the time, is where a kill finds the process as the call before has left it.
SKIPPED = {"restart_syscall", "exit", "exit_group", "execve", "strace"}


class World:
    """A database with its application, and a replica in a directory."""

    def __init__(self, folder):
        self.folder = folder
        self.db = folder / "app.db"
        self.replica = f"file://{folder / 'replica'}"
        self.rows = 0
        self.app = sqlite3.connect(self.db, timeout=0, isolation_level=None)
        self.app.execute("PRAGMA journal_mode=WAL")
        self.app.execute("PRAGMA synchronous=NORMAL")
        # Small enough that the WAL starts over often.
        self.app.execute("PRAGMA wal_autocheckpoint=20")
        self.app.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB)")

    def commit(self):
        self.rows += 1
        self.app.execute("BEGIN IMMEDIATE")
        self.app.execute("INSERT INTO t(x) VALUES(randomblob(?))", (self.rows * 37 % 3000,))
        self.app.execute("UPDATE t SET x = randomblob(200) WHERE id % 11 = ?", (self.rows % 11,))
        self.app.execute("DELETE FROM t WHERE id < ?", (self.rows - 60,))
        self.app.execute("COMMIT")

    def stored(self):
        folder = self.folder / "replica/ltx/0"
        return max((f.name for f in folder.glob("*.ltx")), default="")

    def replicate(self, before, *more):
        command = [*before, LSFAST, "replicate", *more, str(self.db), self.replica]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)

    def live(self, before):
        """Runs lsfast while the application commits. Returns whether it was killed."""
        before_start, lsfast = self.stored(), self.replicate(before)
        try:
            for _ in range(COMMITS):
                self.commit()
                time.sleep(PAUSE)
            # What was committed is stored when this ends, unless it is killed.
            began, stored_at = time.monotonic(), None
            while lsfast.poll() is None:
                waited = time.monotonic() - began
                if stored_at is None and self.stored() != before_start:
                    stored_at = waited
                if stored_at is not None and waited > stored_at + LIVES:
                    stop(lsfast)
                    stored_at = PATIENCE
                if waited > PATIENCE:
                    raise AssertionError("lsfast does not end")
                time.sleep(0.005)
        finally:
            if lsfast.poll() is None:
                os.killpg(lsfast.pid, signal.SIGKILL)
            _, said = lsfast.communicate()
        if lsfast.returncode == 0:
            return False
        if lsfast.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL):
            return True
        raise AssertionError(f"lsfast ended with {lsfast.returncode}: {said.decode(errors='replace')[-2000:]}")

    def check(self):
        self.commit()
        done = self.replicate([], "--once")
        _, said = done.communicate(timeout=PATIENCE)
        if done.returncode != 0:
            raise AssertionError(f"--once ends with {done.returncode}: {said.decode(errors='replace')[-2000:]}")
        out = self.folder / "out.db"
        out.unlink(missing_ok=True)
        command = [LSFAST, "restore", "-o", str(out), self.replica]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        if done.returncode != 0:
            raise AssertionError(f"a restore ends with {done.returncode}: {done.stderr[-2000:]}")
        restored = sqlite3.connect(f"file:{out}?immutable=1", uri=True)
        rows = "SELECT id, x FROM t ORDER BY id"
        if restored.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
            raise AssertionError("the restored database is damaged")
        if restored.execute(rows).fetchall() != self.app.execute(rows).fetchall():
            raise AssertionError("the restored rows are not those of the database")
        restored.close()


def stop(traced):
    """Asks lsfast to end: the child of strace, or the process itself."""
    children = Path(f"/proc/{traced.pid}/task/{traced.pid}/children")
    try:
        pids = [int(p) for p in children.read_text().split()] or [traced.pid]
    except OSError:
        return
    for pid in pids:
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            pass


def count(world, calls):
    """How often each call is made by the thread that makes it most often."""
    log = world.folder / "calls.txt"
    world.live(["strace", "-f", "-qq", "-e", f"trace={calls}", "-e", "signal=none", "-o", str(log)])
    counts = collections.Counter(re.findall(r"^(\d+) +(\w+)\(", log.read_text(errors="replace"), re.M))
    most = collections.Counter()
    for (_, name), n in counts.items():
        most[name] = max(most[name], n)
    return {name: n for name, n in most.items() if name not in SKIPPED}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--calls", default="all")
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--shuffle", type=int)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    if not shutil.which("strace"):
        sys.exit("strace is missing: install it (apt install strace)")
    begun = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="lsfast-kills-"))
    world = World(folder)
    counts = count(world, arguments.calls)
    world.check()
    moments = [(name, n) for name in sorted(counts) for n in range(1, counts[name] + 1, arguments.stride)]
    moments *= arguments.rounds
    print(f"{sum(counts.values())} moments at {len(counts)} calls; {len(moments)} of them are tried", flush=True)
    if arguments.shuffle is not None:
        random.Random(arguments.shuffle).shuffle(moments)
    kills, missed, calls, differences = 0, 0, set(), []
    for name, n in moments:
        if time.monotonic() - begun > arguments.seconds:
            break
        inject = f"inject={name}:signal=KILL:when={n}"
        try:
            if world.live(["strace", "-f", "-qq", "-e", f"trace={name}", "-e", inject, "-o", "/dev/null"]):
                kills += 1
                calls.add(name)
            else:
                # The threads have shared the work in another way this time.
                missed += 1
            world.check()
        except (AssertionError, sqlite3.Error, subprocess.TimeoutExpired) as e:
            kept = f"{folder}-{len(differences)}"
            shutil.copytree(folder, kept)
            differences.append(f"{name} {n}: {e} ({kept})")
            print(differences[-1], flush=True)
    took = time.monotonic() - begun
    print(
        f"{kills} kills at {len(calls)} system calls in {took:.0f} s, {world.rows} commits, "
        f"{missed} moments that did not come again; {len(differences)} differences"
    )
    print("\n".join(differences))
    shutil.rmtree(folder)
    sys.exit(1 if differences else 0)


if __name__ == "__main__":
    main()
