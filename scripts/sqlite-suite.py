#!/usr/bin/env python3
"""Runs tests of SQLite's own suite alone, next to a second connection, and next to lsfast, and compares what fails.

    scripts/sqlite-suite.py SOURCE [TEST...]     SOURCE has a built `testfixture`; without TEST: wal*, e_wal*, savepoint*

SOURCE is a source tree of SQLite after `./configure && make testfixture`. The second connection is one of Python's sqlite3
to each database of the test, which reads once and then stays open. A test that fails next to lsfast, and in neither of
the other runs, is printed by name. LSFAST names the program (target/release/lsfast without it), SUITE_LIMIT_S the longest
time of one test file, SUITE_DIR a folder that keeps all output.

The suite moves the lock bytes of SQLite, so that other programs do not see its locks. A copy of its tester.tcl that
does not is used in all three runs.
"""
import json
import os
import pathlib
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading

ROOT = pathlib.Path(__file__).resolve().parent.parent
LSFAST = pathlib.Path(os.environ.get("LSFAST", ROOT / "target/release/lsfast")).resolve()
# Longest time of one test file.
LIMIT_S = int(os.environ.get("SUITE_LIMIT_S", "600"))
NAMES = re.compile(r"^(wal|e_wal|savepoint).*\.test$")


class Connections(threading.Thread):
    """Keeps a connection open to each database in a folder."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.folder, self.over, self.open = folder, threading.Event(), {}

    def run(self):
        while not self.over.wait(0.005):
            for path in self.folder.glob("test.db*"):
                if re.search(r"-(wal|shm|journal)$", path.name):
                    continue
                try:
                    inode = path.stat().st_ino
                    held = self.open.get(path)
                    if held and held[0] == inode:
                        continue
                    with open(path, "rb") as f:
                        if f.read(20)[18:20] != b"\x02\x02":
                            continue
                    db = sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=0, isolation_level=None)
                    db.execute("PRAGMA wal_autocheckpoint=0")
                    db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
                    self.open[path] = (inode, db)
                except (OSError, sqlite3.Error):
                    continue
        for _, db in self.open.values():
            db.close()


def start_lsfast(folder, work):
    config = work / "lsfast.yml"
    config.write_text(json.dumps({"dbs": [{
        "dir": str(folder), "pattern": "test.db*", "watch": True, "recursive": False,
        "replica": {"type": "file", "path": str(work / "replica")},
    }]}))
    log = open(work / "lsfast.log", "w")
    return subprocess.Popen([LSFAST, "replicate", "-config", config], stdout=log, stderr=log)


def run(source, library, test, how, work):
    """Returns (names of tests that failed, their number in all, how it ended)."""
    folder = work / "testdir"
    folder.mkdir(parents=True)
    other, lsfast = None, None
    if how == "second":
        other = Connections(folder)
        other.start()
    elif how == "lsfast":
        lsfast = start_lsfast(folder, work)
    try:
        done = subprocess.run([source / "testfixture", library / test], cwd=work, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=LIMIT_S, check=False)
        output, ended = done.stdout.decode(errors="replace"), f"exit {done.returncode}"
    except subprocess.TimeoutExpired as e:
        output, ended = (e.stdout or b"").decode(errors="replace"), f"after {LIMIT_S} s"
    if other:
        other.over.set()
        other.join()
    if lsfast:
        if lsfast.poll() is not None:
            ended += f", lsfast ended by itself: {lsfast.returncode}"
        else:
            lsfast.send_signal(signal.SIGTERM)
            lsfast.wait()
    (work / "output").write_text(output)
    failed = set(re.findall(r"^! (\S+) expected", output, re.M)) | set(re.findall(r"^(\S+)\.\.\. Error:", output, re.M))
    found = re.search(r"(\d+) errors out of (\d+) tests", output)
    return failed, int(found[2]) if found else 0, ended if found else f"{ended}, no result"


def main():
    source = pathlib.Path(sys.argv[1]).resolve()
    tests = sys.argv[2:] or sorted(t.name for t in (source / "test").iterdir() if NAMES.match(t.name))
    work = pathlib.Path(os.environ.get("SUITE_DIR") or tempfile.mkdtemp(prefix="sqlite-suite."))
    library = work / "test"
    shutil.copytree(source / "test", library, dirs_exist_ok=True)
    # The tests find the library by their own place.
    for name in ("ext", "src", "tool"):
        if not (work / name).exists():
            (work / name).symlink_to(source / name)
    tester = (library / "tester.tcl").read_text()
    (library / "tester.tcl").write_text(tester.replace("sqlite3_test_control_pending_byte 0x0010000\n", "\n"))
    totals, only = {"alone": 0, "second": 0, "lsfast": 0}, {}
    count = 0
    for test in tests:
        results = {}
        for how in totals:
            place = work / "runs" / test / how
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            results[how] = run(source, library, test, how, place)
            totals[how] += len(results[how][0])
        count += results["alone"][1]
        news = results["lsfast"][0] - results["second"][0] - results["alone"][0]
        if news:
            only[test] = sorted(news)
        print(test, *(f"{how}: {len(r[0])} of {r[1]} ({r[2]})" for how, r in results.items()),
              f"only next to lsfast: {' '.join(sorted(news))}" if news else "", flush=True)
    print(f"{count} tests in {len(tests)} files; failed: " + ", ".join(f"{how} {n}" for how, n in totals.items()))
    print(f"only next to lsfast: {sum(map(len, only.values()))}")


main()
