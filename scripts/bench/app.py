"""The application: a process of its own that writes into databases and notes when, and how far the log went.

    python3 -m bench.app '{"mode": ..., "dbs": [...], ...}'

Says a JSON line when it is ready, starts at a line on its input, says its results as one JSON line, commits one more row at each line
with the number of a database, and closes its databases at the end of its input: the last one to close a database would copy the log into it and remove it.

modes
  sparse  one row a commit with a random pause before each, for `seconds`; each commit with its time and position
  loop    commits of `rows` rows as fast as they go, for `seconds`
  fleet   commits at `rate` a second in all for `seconds`, at random times, spread over all databases
"""
import json
import mmap
import os
import random
import resource
import sqlite3
import struct
import sys
import time

SAMPLE_SECONDS = 0.02
clock = time.monotonic


class Database:
    """A connection, and a look at the wal-index beside it."""

    def __init__(self, path, synchronous, busy_timeout):
        self.path = path
        self.app = sqlite3.connect(path, isolation_level=None, timeout=busy_timeout, cached_statements=16)
        self.app.execute("pragma journal_mode=wal")
        self.app.execute(f"pragma synchronous={synchronous}")
        self.app.execute("create table if not exists t(id integer primary key, x)")
        self.frame = 24 + self.app.execute("pragma page_size").fetchone()[0]
        # To close a descriptor of this file would drop the locks that SQLite holds on it: it stays open to the end.
        self.shm = mmap.mmap(os.open(path + "-shm", os.O_RDONLY), 4096, prot=mmap.PROT_READ)

    def position(self):
        """First salt of the log and its committed length."""
        (frames,) = struct.unpack_from("=I", self.shm, 16)
        (salt,) = struct.unpack_from(">I", self.shm, 32)
        return salt, 32 + frames * self.frame if frames else 0

    def log_size(self):
        try:
            return os.stat(self.path + "-wal").st_size
        except FileNotFoundError:
            return 0

    def insert(self):
        self.app.execute("insert into t(x) values(?)", ("y" * 200,))


def pause_until(when):
    while (left := when - clock()) > 0:
        time.sleep(left)


def sparse(job, db):
    commits, busy, samples = [], 0, []
    chance = random.Random(job["seed"])
    end = clock() + job["seconds"]
    while True:
        due = clock() + job["gap"] * chance.uniform(0.5, 1.5)
        if due > end:
            return {"commits": commits, "busy": busy, "samples": samples}
        pause_until(due)
        begun = clock()
        try:
            db.insert()
        except sqlite3.OperationalError:
            busy += 1
            continue
        done = clock()
        commits.append([begun, done, *db.position()])
        samples.append([done, len(commits), *db.position(), db.log_size()])


def loop(job, db):
    rows, latencies, samples, busy, largest = job["rows"], [], [], 0, 0
    batch = [("y" * 200,)] * rows
    execute, count = db.app.execute, 0
    begun = last = clock()
    end, sample = begun + job["seconds"], begun
    while last < end:
        try:
            if rows == 1:
                execute("insert into t(x) values(?)", batch[0])
            else:
                execute("begin")
                db.app.executemany("insert into t(x) values(?)", batch)
                execute("commit")
            count += 1
        except sqlite3.OperationalError:
            busy += 1
            if db.app.in_transaction:
                execute("rollback")
        now = clock()
        latencies.append(now - last)
        if now >= sample:
            samples.append([now, count, *db.position(), db.log_size()])
            largest = max(largest, samples[-1][4])
            sample = now + SAMPLE_SECONDS
            now = clock()
        last = now
    samples.append([clock(), count, *db.position(), db.log_size()])
    latencies.sort()
    figures = {name: latencies[min(len(latencies) - 1, int(len(latencies) * at))] for name, at in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))}
    figures |= {"max": latencies[-1], "rate": count / (last - begun), "commits": count, "rows": count * rows, "busy": busy}
    return figures | {"begun": begun, "ended": last, "samples": samples, "wal": max(largest, samples[-1][4])}


def fleet(job, databases):
    chance = random.Random(job["seed"])
    commits, busy, behind = [], 0, 0.0
    order = list(range(len(databases)))
    begun = clock()
    due, number = begun, 0
    while True:
        due += chance.expovariate(job["rate"])
        if due > begun + job["seconds"]:
            return {"commits": commits, "busy": busy, "behind": behind}
        if number % len(order) == 0:
            chance.shuffle(order)
        db = databases[order[number % len(order)]]
        which, number = order[number % len(order)], number + 1
        pause_until(due)
        start = clock()
        behind = max(behind, start - due)
        try:
            db.insert()
        except sqlite3.OperationalError:
            busy += 1
            continue
        commits.append([start, clock(), *db.position(), which])


def main():
    job = json.loads(sys.argv[1])
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    paths = job["dbs"] if isinstance(job["dbs"], list) else json.load(open(job["dbs"]))
    databases = [Database(p, job["synchronous"], job["busy_timeout"]) for p in paths]
    print(json.dumps({"positions": [db.position() for db in databases]}), flush=True)
    sys.stdin.readline()
    if job["mode"] == "fleet":
        answer = fleet(job, databases)
    else:
        answer = {"sparse": sparse, "loop": loop}[job["mode"]](job, databases[0])
    print(json.dumps(answer), flush=True)
    while line := sys.stdin.readline():
        db = databases[int(line)]
        db.insert()
        print(json.dumps(db.position()), flush=True)
    for db in databases:
        db.app.close()


if __name__ == "__main__":
    main()
