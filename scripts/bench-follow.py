#!/usr/bin/env python3
"""How far a followed database lags behind: lsfast's `restore -f` beside Litestream's, from one replica, in one run.

    cargo build --release && scripts/bench-follow.py [--commits 60] [--gap 1.0] [--interval 1s] [--place s3|dir]

`lsfast replicate` stores one commit a second (SeaweedFS on loopback, or a directory); a reader beside each follower opens
its database every few milliseconds and notes when a commit can be seen there. Prints the times from COMMIT to that. A reader
that finds no whole state (an error, or a failed quick_check) is counted.
"""
import argparse
import json
import os
import pathlib
import random
import signal
import socket
import sqlite3
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDWEED", "AWS_SECRET_ACCESS_KEY": "weed-secret"}
ENVIRONMENT = {**{name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}, **KEYS}
LOOK_EVERY = 0.004


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def weed(place, options):
    """Starts a server with a bucket; gives the process and its port."""
    config = place / "s3.json"
    key = {"accessKey": KEYS["AWS_ACCESS_KEY_ID"], "secretKey": KEYS["AWS_SECRET_ACCESS_KEY"]}
    rights = ["Admin", "Read", "Write", "List", "Tagging"]
    config.write_text(json.dumps({"identities": [
        {"name": "tester", "credentials": [key], "actions": rights}, {"name": "anonymous", "actions": rights}]}))
    (place / "data").mkdir()
    ports = free_ports(8)
    names = [n + g for n in ("master", "volume", "filer", "s3") for g in (".port", ".port.grpc")]
    command = [options.weed, "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false",
               "-master.electionTimeout=1s", "-volume.max=0", "-master.volumeSizeLimitMB=64", "-filer", "-s3", "-s3.iam=false",
               "-s3.autoCreateBucket=false", "-s3.port.iceberg=0", "-s3.port.lance=0", f"-dir={place / 'data'}",
               f"-s3.config={config}", f"-filer.localSocket={place / 'filer.sock'}"]
    command += [f"-{name}={port}" for name, port in zip(names, ports)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    for path in ("/backups", "/backups/ready"):
        while True:
            try:
                request = urllib.request.Request(f"http://127.0.0.1:{ports[6]}{path}", data=b"x", method="PUT")
                urllib.request.urlopen(request, timeout=5)
                break
            except OSError:
                assert time.monotonic() < until and process.poll() is None, "weed does not get ready"
                time.sleep(0.1)
    return process, ports[6]


class Reader(threading.Thread):
    """Notes when each commit is first seen, and what is not a whole state."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path, self.seen, self.bad, self.looks, self.stop = path, {}, {}, 0, False
        self.start()

    def run(self):
        last = 0
        while not self.stop:
            time.sleep(LOOK_EVERY)
            try:
                db = sqlite3.connect(f"file:{self.path}?mode=rw", uri=True, timeout=5)
                try:
                    newest = db.execute("select max(id) from t").fetchone()[0] or 0
                    now = time.perf_counter()
                    for n in range(last + 1, newest + 1):
                        self.seen[n] = now
                        if db.execute("pragma quick_check(1)").fetchone()[0] != "ok":
                            raise sqlite3.DatabaseError("quick_check")
                    last = max(last, newest)
                    self.looks += 1
                finally:
                    db.close()
            except sqlite3.Error as e:
                if os.path.exists(self.path):
                    self.bad[str(e)] = self.bad.get(str(e), 0) + 1


def figures(name, commits, reader):
    lags = sorted((reader.seen[n] - at) * 1000 for n, at in commits.items() if n in reader.seen)
    missing = len(commits) - len(lags)
    if not lags:
        print(f"{name:12} saw nothing; errors: {reader.bad or 'none'}")
        return
    print(f"{name:12} median {statistics.median(lags):7.0f} ms   p90 {lags[int(len(lags) * 0.9)]:7.0f} ms   max {lags[-1]:7.0f} ms"
          f"   never seen {missing}   looks {reader.looks}   not whole: {reader.bad or 'none'}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commits", type=int, default=60)
    parser.add_argument("--gap", type=float, default=1.0, help="seconds between commits, on average")
    parser.add_argument("--interval", default="1s", help="--follow-interval of both")
    parser.add_argument("--place", choices=["s3", "dir"], default="s3")
    parser.add_argument("--lsfast", default=str(ROOT / "target/release/lsfast"))
    parser.add_argument("--litestream", default=str(ROOT / "target/peers/litestream"))
    parser.add_argument("--weed", default=str(ROOT / "target/peers/weed"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        measure(pathlib.Path(place), options)


def measure(place, options):
    started = []

    def start(name, command):
        log = open(place / f"{name}.log", "w")
        process = subprocess.Popen(command, stdout=log, stderr=log, env=ENVIRONMENT)
        started.append(process)
        return process

    try:
        if options.place == "s3":
            server, port = weed(place, options)
            started.append(server)
            endpoint = f"http://127.0.0.1:{port}"
            url = f"s3://backups/db?endpoint={endpoint}&region=us-east-1&force-path-style=true"
        else:
            url = f"file://{place / 'replica'}"
        db = str(place / "app.db")
        app = sqlite3.connect(db, isolation_level=None)
        app.executescript("pragma journal_mode=wal; create table t(id integer primary key, x); insert into t values(1, 'x')")
        start("replicate", [options.lsfast, "replicate", db, url])
        time.sleep(3)
        outs = {"lsfast": place / "a.db", "litestream": place / "b.db"}
        follow = ["restore", "-f", "-follow-interval", options.interval, "-o"]
        start("lsfast", [options.lsfast, *follow, str(outs["lsfast"]), url])
        start("litestream", [options.litestream, *follow, str(outs["litestream"]), url])
        until = time.monotonic() + 30
        while not all(p.exists() for p in outs.values()):
            assert time.monotonic() < until, [(place / f"{n}.log").read_text() for n in ("replicate", *outs)]
            time.sleep(0.1)
        time.sleep(2)
        readers = {name: Reader(path) for name, path in outs.items()}
        commits = {}
        for n in range(2, options.commits + 2):
            # Not in step with anybody's ticks.
            time.sleep(random.uniform(0.5, 1.5) * options.gap)
            app.execute("insert into t values(?, hex(randomblob(500)))", (n,))
            commits[n] = time.perf_counter()
        time.sleep(5)
        print(f"{options.commits} commits, one every {options.gap} s on average, {options.place}, interval {options.interval}: from COMMIT to a reader")
        for name, reader in readers.items():
            reader.stop = True
            reader.join()
            figures(name, commits, reader)
    finally:
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
        for process in started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


if __name__ == "__main__":
    main()
