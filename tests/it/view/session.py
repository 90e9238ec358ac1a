"""Changes a database and prints, for each line of input, one line of JSON: the rows of each table that a session of
SQLite has recorded as inserted, updated and deleted."""
import json
import random
import sys

import apsw

path, seed = sys.argv[1], int(sys.argv[2])
random.seed(seed)
db = apsw.Connection(path)
db.execute("PRAGMA journal_mode=WAL")
db.execute("CREATE TABLE items(id INTEGER PRIMARY KEY, name TEXT, body BLOB, price REAL)")
db.execute("CREATE INDEX by_name ON items(name)")
db.execute("CREATE TABLE pairs(a TEXT NOT NULL, b INT NOT NULL, x, PRIMARY KEY(a, b)) WITHOUT ROWID")
db.execute("CREATE TABLE empty(id INTEGER PRIMARY KEY, x)")


def body():
    return random.randbytes(random.choice([0, 10, 200, 5000]))


def some_id():
    return random.randrange(1, 400)


def pair():
    return (random.choice("abcdefgh"), random.randrange(20))


def change():
    match random.randrange(10):
        case 0 | 1 | 2:
            db.execute("INSERT OR REPLACE INTO items VALUES(?, ?, ?, ?)", (some_id(), f"n{some_id()}", body(), 1.5))
        case 3:
            db.execute("UPDATE items SET body = ? WHERE id = ?", (body(), some_id()))
        case 4:
            db.execute("UPDATE items SET name = name || 'x', price = price + 1 WHERE id % 7 = ?", (random.randrange(7),))
        case 5:
            low = some_id()
            db.execute("DELETE FROM items WHERE id BETWEEN ? AND ?", (low, low + random.randrange(40)))
        case 6 | 7:
            db.execute("INSERT OR REPLACE INTO pairs VALUES(?, ?, ?)", (*pair(), body()))
        case 8:
            db.execute("UPDATE pairs SET x = ? WHERE a = ? AND b < ?", (some_id(), *pair()))
        case 9:
            db.execute("DELETE FROM pairs WHERE a = ? AND b > ?", pair())


with db:
    for _ in range(300):
        change()
print("{}", flush=True)
for _ in sys.stdin:
    session = apsw.Session(db, "main")
    session.attach(None)
    with db:
        for _ in range(random.choice([1, 5, 60])):
            change()
    counts = {}
    for one in apsw.Changeset.iter(session.changeset()):
        at = ["INSERT", "UPDATE", "DELETE"].index(one.op)
        counts.setdefault(one.name, [0, 0, 0])[at] += 1
    session.close()
    print(json.dumps(counts), flush=True)
