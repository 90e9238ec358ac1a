"""What a database must hold after its nth transaction, and whether a restored one does.

Each transaction follows from the seed, the name of the database and its number alone, whichever process commits it. So a
state proves itself: its number says which rows there must be, to the byte.
"""
import array
import functools
import random
import sqlite3
import threading
import zlib

POOL_BYTES = 4 << 20
SCHEMA = """
create table if not exists rows(id integer primary key, v integer, x blob);
create index if not exists rows_v on rows(v);
create table if not exists state(one integer primary key check(one = 1), n integer, first integer, next integer);
insert or ignore into state values(1, 0, 1, 1);
"""


@functools.lru_cache(1)
def pool(seed):
    """Bytes that rows are cut from: half of them compress."""
    chance = random.Random(f"pool {seed}")
    words = [bytes(chance.choices(b"etaoin shrdlu", k=8)) for _ in range(256)]
    half = POOL_BYTES // 2
    return chance.randbytes(half) + b"".join(chance.choices(words, k=half // 8))


def row(seed, chance, sizes):
    size = chance.randint(*sizes)
    at = chance.randrange(POOL_BYTES - size)
    x = pool(seed)[at : at + size]
    return zlib.crc32(x), x


def changes(seed, load, n, first, following):
    """Transaction n of a database whose rows have the ids from `first` up to `following`: rows to write, new first id."""
    chance = random.Random(f"{seed}/{load['name']}/{n}")
    big = load.get("big")
    count = big[1] if big and n % big[0] == 0 else chance.randint(*load["rows"])
    written = [(following + i, *row(seed, chance, load["sizes"])) for i in range(count)]
    if following > first:
        written += [(chance.randrange(first, following), *row(seed, chance, load["sizes"])) for _ in range(chance.randrange(3))]
    end = following + count
    if end - first > load["keep"]:
        # Down to some share of them, so that pages get free and are used again.
        first = end - chance.randint(load["keep"] // 3, load["keep"])
    return written, first, end


class Ledger:
    """Number of rows and sum over them after each transaction of one database, worked out as far as they are asked for."""

    def __init__(self, seed, load):
        self.seed, self.load, self.lock = seed, load, threading.Lock()
        self.live, self.first, self.next, self.sum = {}, 1, 1, 0
        self.firsts, self.nexts, self.sums = array.array("q", [1]), array.array("q", [1]), array.array("Q", [0])

    def at(self, n):
        with self.lock:
            while len(self.sums) <= n:
                self._step(len(self.sums))
            return self.firsts[n], self.nexts[n], self.sums[n]

    def _step(self, n):
        written, first, self.next = changes(self.seed, self.load, n, self.first, self.next)
        for key, v, _ in written:
            self.sum += weight(key, v) - (weight(key, self.live[key]) if key in self.live else 0)
            self.live[key] = v
        for key in range(self.first, first):
            self.sum -= weight(key, self.live.pop(key))
        self.first = first
        self.firsts.append(first)
        self.nexts.append(self.next)
        self.sums.append(self.sum)

    def read(self, app):
        """The number of the state that a connection sees; ValueError if there never was such a state."""
        app.execute("begin")
        try:
            n, first, following = app.execute("select n, first, next from state").fetchone()
            expected = self.at(n)
            if (first, following) != expected[:2]:
                raise ValueError(f"state {n} has the ids {first} to {following}, and not {expected[0]} to {expected[1]}")
            count = total = 0
            for key, v, x in app.execute("select id, v, x from rows order by id"):
                if zlib.crc32(x) != v or not first <= key < following:
                    raise ValueError(f"state {n}: row {key} is not as it was written")
                count += 1
                total += weight(key, v)
            if (count, total) != (following - first, expected[2]):
                raise ValueError(f"state {n} has {count} rows with sum {total}, and not {following - first} with {expected[2]}")
            return n
        finally:
            app.execute("rollback")

    def check(self, path):
        """The number of the state in a database file that no process uses."""
        app = sqlite3.connect(f"file:{path}?immutable=1", uri=True, isolation_level=None)
        try:
            found = app.execute("pragma integrity_check").fetchall()
            if found != [("ok",)]:
                raise ValueError(f"integrity_check: {found[:3]}")
            return self.read(app)
        finally:
            app.close()


def weight(key, v):
    return key * 0x9E3779B1 % (1 << 32) * (v + 1) % 0xFFFFFFFB
