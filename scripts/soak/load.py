"""One application: a process that writes into one database until it is told to end.

    python3 -m soak.load '{"seed": ..., "load": {...}, "db": ..., "slot": ..., "worker": 0}'

What it has done is in the slot, a small file of numbers that outlives it: last transaction, commits, times that it found
the database busy, other errors, longest commit in microseconds, checkpoints.
"""
import json
import mmap
import random
import signal
import sqlite3
import struct
import sys
import time

from . import ledger

FIELDS = ("last", "commits", "busy", "errors", "longest", "checkpoints")


class Slot:
    def __init__(self, path):
        with open(path, "a+b") as file:
            file.truncate(8 * len(FIELDS))
            self.map = mmap.mmap(file.fileno(), 8 * len(FIELDS))

    def get(self):
        return dict(zip(FIELDS, struct.unpack(f"={len(FIELDS)}q", self.map[:])))

    def add(self, field, value=1, largest=False):
        at = 8 * FIELDS.index(field)
        (old,) = struct.unpack("=q", self.map[at : at + 8])
        self.map[at : at + 8] = struct.pack("=q", max(old, value) if largest else old + value)


class App:
    def __init__(self, job):
        self.seed, self.load, self.db, self.slot = job["seed"], job["load"], job["db"], Slot(job["slot"])
        self.chance = random.Random(f"{self.seed}/{self.load['name']}/pauses/{job['worker']}/{time.time()}")
        self.app, self.ended = None, False
        signal.signal(signal.SIGTERM, self.end)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def end(self, *_):
        self.ended = True

    def connect(self):
        self.app = sqlite3.connect(self.db, isolation_level=None, timeout=self.load["busy_timeout"])
        self.app.execute(f"pragma page_size={self.load.get('page_size', 4096)}")
        self.app.execute("pragma journal_mode=wal")
        self.app.execute("pragma synchronous=normal")
        if self.load.get("checkpoints"):
            self.app.execute("pragma wal_autocheckpoint=0")
        if self.app.execute("select count(*) from sqlite_master where name = 'state'").fetchone() == (0,):
            self.app.executescript("begin immediate;" + ledger.SCHEMA + "commit;")

    def close(self):
        if self.app:
            self.app.close()
        self.app = None

    def transaction(self):
        begun = time.monotonic()
        self.app.execute("begin immediate")
        n, first, following = self.app.execute("select n, first, next from state").fetchone()
        written, kept, end = ledger.changes(self.seed, self.load, n + 1, first, following)
        self.app.executemany("insert or replace into rows values(?, ?, ?)", written)
        if kept > first:
            self.app.execute("delete from rows where id < ?", (kept,))
        self.app.execute("update state set n = ?, first = ?, next = ?", (n + 1, kept, end))
        before = time.monotonic()
        self.app.execute("commit")
        now = time.monotonic()
        self.slot.add("last", n + 1, largest=True)
        self.slot.add("commits")
        # The wait for other writers of the same database is theirs, and no commit.
        self.slot.add("longest", int((now - before) * 1e6), largest=True)
        if self.load["alone"]:
            self.slot.add("longest", int((now - begun) * 1e6), largest=True)
        return n + 1

    def step(self):
        if self.app is None:
            self.connect()
        n = self.transaction()
        if self.load.get("vacuum") and n % self.load["vacuum"] == 0:
            self.app.execute("vacuum")
        if self.load.get("checkpoints") and n % self.load["checkpoints"] == 0:
            kind = self.chance.choice(["passive", "full", "restart", "truncate"])
            self.app.execute(f"pragma wal_checkpoint({kind})").fetchone()
            self.slot.add("checkpoints")
        return n

    def run(self):
        steps = 0
        while not self.ended:
            try:
                self.step()
                steps += 1
            except sqlite3.OperationalError as error:
                busy = "locked" in str(error) or "busy" in str(error)
                self.slot.add("busy" if busy else "errors")
                print(time.strftime("%H:%M:%S"), error, flush=True)
                if self.app and self.app.in_transaction:
                    self.app.execute("rollback")
            burst = self.load.get("burst")
            if burst and steps % burst[0] == 0:
                self.pause(self.chance.uniform(0.5, 1.5) * burst[1])
            if self.load.get("reopen") and steps % self.load["reopen"] == 0:
                self.close()
                self.pause(self.chance.uniform(0, 4))
            self.pause(self.load["gap"] * self.chance.uniform(0.2, 1.8))
        self.close()

    def pause(self, seconds):
        end = time.monotonic() + seconds
        while not self.ended and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))


if __name__ == "__main__":
    App(json.loads(sys.argv[1])).run()
