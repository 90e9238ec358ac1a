"""Damage that a soak must notice: shows that its checks can fail."""
import pathlib

KINDS = ("object",)


def do(kind, world):
    """Breaks the thing of that kind; says what."""
    replica = next(r for r in world.replicas if r.kind == "dir")
    file = max(pathlib.Path(replica.server.path / replica.prefix).rglob("*.ltx"), key=lambda p: p.stat().st_size)
    body = bytearray(file.read_bytes())
    body[len(body) // 2] ^= 0x10
    file.write_bytes(body)
    return f"{kind}: a bit of {file.name} of {replica.name} is another"
