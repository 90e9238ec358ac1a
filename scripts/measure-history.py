#!/usr/bin/env python3
"""How much longer a restore with a long history takes, with a round trip to the store: the same database
with and without a day of raw files.

    cargo build --release
    scripts/measure-history.py [--megabytes 1024] [--commits 86400] [--rtt 20] [--rounds 5] [--lsfast target/release/lsfast]

A database is replicated to a directory, each commit as a file of its own, and the levels above are made meanwhile. A small server
shows that directory as a bucket, whole and without the raw files that other levels cover, and waits for the round trip before
each answer. Restores of both take turns. The replica is made in --fast, which is to be a file system in memory. Everything is removed in the end.
"""
import argparse
import bisect
import http.server
import os
import re
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from bench import data  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
KEYS = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--commits", type=int, default=86_400)
    parser.add_argument("--rtt", type=float, default=20, metavar="MS")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dir", default=str(ROOT / "target"), help="where the databases are [target]")
    parser.add_argument("--fast", default="/dev/shm", help="where the replica is [/dev/shm]")
    parser.add_argument("--lsfast", default=str(ROOT / "target/release/lsfast"), metavar="PATH")
    options = parser.parse_args()
    work, fast = (Path(tempfile.mkdtemp(prefix="history-", dir=place)) for place in (options.dir, options.fast))
    try:
        measure(options, work, fast)
    finally:
        shutil.rmtree(work)
        shutil.rmtree(fast)


def measure(options, work, fast):
    db, replica = work / "app.db", fast / "replica"
    data.make(str(db), options.megabytes)
    begun = time.monotonic()
    fill(options, db, replica, fast)
    levels = {path.name: len(list(path.iterdir())) for path in sorted((replica / "ltx").iterdir())}
    print(f"files on each level: {levels}, made in {time.monotonic() - begun:.0f} s", flush=True)
    bucket = Bucket(replica, options.rtt / 1000)
    proof, results = data.summary(str(db)), {"with": [], "without": []}
    for number in range(options.rounds):
        for prefix in sorted(results, reverse=number % 2 == 1):
            results[prefix].append(restore(options, work, bucket, prefix, proof))
    print(f"\nrestore of {options.megabytes} MB, {options.rtt:g} ms of round trip, medians of {options.rounds} turns\n")
    print("| raw files | s | least, most | CPU s | LISTs | requests |\n|---|---|---|---|---|---|")
    for prefix, rows in results.items():
        raw = sum(key.startswith(f"{prefix}/0000/") for key in bucket.keys)
        seconds = [row["seconds"] for row in rows]
        middle = lambda key: statistics.median(row[key] for row in rows)
        spread = f"{min(seconds):.2f}, {max(seconds):.2f}"
        print(f"| {raw} | {middle('seconds'):.2f} | {spread} | {middle('cpu'):.2f} | {middle('lists'):.0f} | {middle('requests'):.0f} |")
    ratio = [a["seconds"] / b["seconds"] for a, b in zip(results["with"], results["without"])]
    print(f"\nratio of each turn: median {statistics.median(ratio):.2f}, " + ", ".join(f"{r:.2f}" for r in ratio))


def fill(options, db, replica, fast):
    """Replicates the database until there is a raw file for each commit."""
    log = open(fast / "lsfast.log", "wb")
    command = [options.lsfast, "replicate", str(db), f"file://{replica}", "--sync-interval", "0"]
    child = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        raw = replica / "ltx/0"
        wait(lambda: raw.is_dir() and any(raw.glob("*.ltx")), child, fast)
        app = sqlite3.connect(db, isolation_level=None, timeout=5)
        app.execute("pragma synchronous=off")
        newest = max(int(path.name[:16], 16) for path in raw.glob("*.ltx"))
        for n in range(options.commits):
            app.execute("insert into t(x) values(?)", (f"commit {n}",))
            newest += 1
            wait(lambda: (raw / f"{newest:016x}-{newest:016x}.ltx").exists(), child, fast, pause=0.0002)
            if n % 10_000 == 9_999:
                print(f"  {n + 1} commits", flush=True)
        # The levels above are made of what is there.
        covered = lambda: max((int(p.name[17:33], 16) for p in replica.glob("ltx/1/*")), default=0)
        wait(lambda: covered() >= newest - 500 or options.commits < 500, child, fast, seconds=120)
        app.close()
    finally:
        child.terminate()
        child.wait(60)


def wait(condition, child, fast, seconds=600, pause=0.02):
    end = time.monotonic() + seconds
    while not condition():
        if child.poll() is not None or time.monotonic() > end:
            sys.exit(f"measure-history: waited in vain:\n{(fast / 'lsfast.log').read_text()[-2000:]}")
        time.sleep(pause)


def restore(options, work, bucket, prefix, proof):
    out = work / "restored.db"
    for path in work.glob("restored.db*"):
        path.unlink()
    os.sync()
    bucket.seen.clear()
    url = f"s3://bucket/{prefix}?endpoint=http://127.0.0.1:{bucket.port}&region=us-east-1&force-path-style=true"
    usage = os.times()
    begun = time.monotonic()
    done = subprocess.run([options.lsfast, "restore", "-o", str(out), url], env={**os.environ, **KEYS}, capture_output=True, text=True)
    seconds = time.monotonic() - begun
    now = os.times()
    if done.returncode:
        sys.exit(f"measure-history: {done.stderr}")
    if data.summary(str(out)) != proof:
        sys.exit(f"measure-history: {prefix}: another database was restored")
    cpu = now.children_user + now.children_system - usage.children_user - usage.children_system
    lists = sum("list-type=2" in path for path in bucket.seen)
    return {"seconds": seconds, "cpu": cpu, "lists": lists, "requests": len(bucket.seen)}


class Bucket:
    """The replica in a directory as objects under `with/` and, without raw files that level 1 covers, `without/`."""

    def __init__(self, replica, delay):
        self.seen, self.files = [], {}
        covered = max((int(p.name[17:33], 16) for p in replica.glob("ltx/1/*")), default=0)
        for path in replica.glob("ltx/*/*.ltx"):
            level = int(path.parent.name)
            key = f"{level:04x}/{path.name}"
            self.files["with/" + key] = path
            if level > 0 or int(path.name[17:33], 16) > covered:
                self.files["without/" + key] = path
        self.sizes = {key: (path.stat().st_size, path.stat().st_mtime) for key, path in self.files.items()}
        self.keys = sorted(self.files)
        bucket = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_):
                pass

            def do_HEAD(self):
                self.do_GET()

            def do_GET(self):
                time.sleep(delay)
                bucket.seen.append(self.path)
                url = urllib.parse.urlsplit(self.path)
                query = dict(urllib.parse.parse_qsl(url.query))
                key = urllib.parse.unquote(url.path).split("/", 2)[-1] if url.path.count("/") > 1 else ""
                if query.get("list-type") == "2":
                    return self.answer(200, bucket.listed(query))
                if key not in bucket.files:
                    return self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
                size = bucket.sizes[key][0]
                asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
                first, last = (int(asked[1]), min(int(asked[2] or size), size - 1)) if asked else (0, size - 1)
                more = {"Content-Range": f"bytes {first}-{last}/{size}"} if asked else {}
                with open(bucket.files[key], "rb") as file:
                    file.seek(first)
                    self.answer(206 if asked else 200, file.read(last + 1 - first), {**more, "ETag": f'"{hash(key):x}"'})

            def answer(self, status, body, headers={}):
                self.send_response(status)
                for name, value in {**headers, "Content-Length": len(body)}.items():
                    self.send_header(name, str(value))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.port = server.server_port
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def listed(self, query):
        prefix = query.get("prefix", "")
        after = query.get("continuation-token") or query.get("start-after", "")
        most = int(query.get("max-keys", 1000))
        at = max(bisect.bisect_left(self.keys, prefix), bisect.bisect_right(self.keys, after))
        page = [key for key in self.keys[at : at + most + 1] if key.startswith(prefix)]
        stamp = lambda key: time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(self.sizes[key][1]))
        one = lambda key: f"<Contents><Key>{key}</Key><LastModified>{stamp(key)}</LastModified><Size>{self.sizes[key][0]}</Size></Contents>"
        more = len(page) > most
        page = page[:most]
        token = f"<NextContinuationToken>{page[-1]}</NextContinuationToken>" if more else ""
        body = f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{token}{''.join(map(one, page))}</ListBucketResult>"
        return body.encode()


if __name__ == "__main__":
    main()
