"""A database of some size, as like as can be to one of an application, and what it costs to copy it."""
import ctypes
import hashlib
import mmap
import os
import random
import shutil
import sqlite3
import time

WORDS = "account address amount balance city comment country created currency customer delivery discount email invoice item name note"
WORDS = (WORDS + " order paid payment phone price product quantity shipped state status street tax total updated user vat weight zip").split()
POOL_BYTES = 8 << 20


def make(path, megabytes):
    """Rows of JSON texts with an index; LZ4 makes about 60% of each page. Closed, in WAL mode, all in the database file."""
    chance = random.Random(7)
    pool = []
    size = 0
    while size < POOL_BYTES:
        text = f'{{"{chance.choice(WORDS)}":"{chance.getrandbits(48):x}","{chance.choice(WORDS)}":{chance.randrange(10**6)}}},'
        pool.append(text)
        size += len(text)
    pool = "".join(pool)
    app = sqlite3.connect(path, isolation_level=None)
    app.executescript(
        "pragma journal_mode=wal; pragma synchronous=off; create table docs(id integer primary key, at integer, x text);"
        "create index docs_at on docs(at); create table t(id integer primary key, x)"
    )
    def rows(count):
        for _ in range(count):
            begin = chance.randrange(POOL_BYTES - 2048)
            yield chance.getrandbits(40), pool[begin : begin + chance.randrange(200, 2000)]

    while os.path.getsize(path) < megabytes << 20:
        app.execute("begin")
        app.executemany("insert into docs(at, x) values(?, ?)", rows(max(100, min(8000, megabytes * 100))))
        app.execute("commit")
        app.execute("pragma wal_checkpoint(truncate)")
    app.close()
    os.sync()


def summary(path):
    """What a restored database is compared by: all its rows of the application."""
    app = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
    digest = hashlib.sha256()
    for table, column in (("docs", "x"), ("t", "x")):
        for row in app.execute(f"select id, {column} from {table} order by id"):
            digest.update(repr(row).encode())
    app.close()
    return digest.hexdigest()


def copy(source, target):
    """Seconds for a copy with fsync."""
    os.sync()
    begun = time.monotonic()
    shutil.copyfile(source, target)
    flush(target)
    return time.monotonic() - begun


def cached(path):
    """Bytes of a file that are in the page cache."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    size, page = os.path.getsize(path), os.sysconf("SC_PAGE_SIZE")
    if size == 0:
        return 0
    file = os.open(path, os.O_RDONLY)
    try:
        at = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file, 0)
        if at in (None, ctypes.c_void_p(-1).value):
            raise OSError(ctypes.get_errno(), "mmap", path)
        seen = ctypes.create_string_buffer((size + page - 1) // page)
        found = libc.mincore(at, size, seen)
        libc.munmap(at, size)
        if found:
            raise OSError(ctypes.get_errno(), "mincore", path)
    finally:
        os.close(file)
    return sum(byte & 1 for byte in seen.raw) * page


def flush(path):
    file = os.open(path, os.O_RDONLY)
    os.fsync(file)
    os.close(file)
