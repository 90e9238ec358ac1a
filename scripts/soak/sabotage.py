"""Damage that a soak must notice: shows that its checks can fail."""
import pathlib
import sqlite3

KINDS = ("object", "standby")


def do(kind, world):
    """Breaks one thing; says what."""
    replica = next(r for r in world.replicas if r.kind == "dir")
    files = sorted(pathlib.Path(replica.server.path / replica.prefix).rglob("*.ltx"), key=lambda p: p.stat().st_mtime)
    if kind == "standby":
        return standby(world)
    file = max(files, key=lambda p: p.stat().st_size)
    body = bytearray(file.read_bytes())
    body[len(body) // 2] ^= 0x10
    file.write_bytes(body)
    return f"a bit of {file.name} of {replica.name} is another"


def standby(world):
    """The standby gets a row of which no transaction knows."""
    app = sqlite3.connect(world.standby, isolation_level=None, timeout=30)
    app.execute("update rows set x = x || x'00' where id = (select (min(id) + max(id)) / 2 from rows)")
    app.close()
    return "a row of the standby is another"
