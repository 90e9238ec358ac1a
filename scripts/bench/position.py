"""Which commits a stored object holds.

The writer notes after each commit where the log ends (from the wal-index: 32 + mxFrame * (24 + page size)) and the salt of the log;
SQLite adds 1 to the first salt each time the log starts over, so (salt, end) only grows: a commit is stored as soon as an object
was answered whose position is not smaller than that of the commit.

* LTX (lsfast, Litestream 0.5): the header at the front of the object has offset, size and salts of the part of the log in it.
* Litestream 0.3: the name has index and offset, the length is that of the LZ4 frame unpacked; the salt is in the first bytes
  of the segment at offset 0 of its index, and an index is one start of the log.

Objects are answered in order, and each goes on where the one before ended, so one object stands for all before it.
"""
import re
import struct

from . import lz4

SEGMENT = re.compile(r"/([0-9a-f]{8})_([0-9a-f]{8,16})\.wal\.lz4$")
# Unpacking the length of a segment is slow; a larger one counts as reaching to the start of the next.
UNPACKED_MOST = 8 << 20


def after(salt, base):
    """Starts of the log since `base`, by the first salt, which may wrap."""
    return (salt - base + (1 << 31)) % (1 << 32) - (1 << 31)


def ltx(head):
    """(first salt, end) that an LTX header says, or nothing."""
    if len(head) < 72 or head[:4] != b"LTX1":
        return None
    offset, size, salt = struct.unpack_from(">qqI", head, 48)
    return (salt, offset + size) if salt and offset + size else None


def stored(events, prefix, base, fetch):
    """Times and positions of what was stored below a prefix, in order; positions as (starts since `base`, end)."""
    found, segments = [], {}
    for event in sorted((e for e in events if e["stored"]), key=lambda e: e["t"]):
        path = event["path"]
        if f"/{prefix}/" not in path:
            continue
        if match := SEGMENT.search(path):
            segments.setdefault(int(match[1], 16), []).append((int(match[2], 16), event))
        elif position := ltx(bytes.fromhex(event["head"])):
            found.append((event["t"], (after(position[0], base), position[1])))
    for index in sorted(segments):
        parts = sorted(segments[index], key=lambda p: p[0])
        start = _start(parts, base, prefix, fetch)
        for number, (offset, event) in enumerate(parts):
            if number + 1 < len(parts):
                end = parts[number + 1][0]
            elif index != max(segments) or event["bytes"] > UNPACKED_MOST:
                end = 1 << 62  # whatever this start of the log had
            else:
                end = offset + lz4.frame(fetch(key_of(event["path"], prefix)))[0]
            if start is not None:
                found.append((event["t"], (start, end)))
    found.sort()
    return found


def _start(parts, base, prefix, fetch):
    """Starts of the log since `base` of an index of Litestream 0.3, if its first segment was seen."""
    offset, event = parts[0]
    if offset:
        return None
    body = bytes.fromhex(event["head"])
    try:
        begin = lz4.frame(body, 32)[1]
    except IndexError:  # only the front of it is here
        begin = lz4.frame(fetch(key_of(event["path"], prefix)), 32)[1]
    return after(struct.unpack_from(">I", begin, 16)[0], base) if len(begin) >= 20 else None


def key_of(path, prefix):
    """The key in the store, of the path of a request (which begins with the bucket)."""
    return path[path.index(f"/{prefix}/") + 1 :]


def lags(commits, found):
    """For each commit (time, position) the seconds until it was stored, or nothing. Both in order of time."""
    answer, at, reached = [], 0, None
    best = []  # (time, largest position so far)
    for when, position in found:
        reached = position if reached is None else max(reached, position)
        best.append((when, reached))
    for when, position in commits:
        while at < len(best) and best[at][1] < position:
            at += 1
        answer.append(max(0.0, best[at][0] - when) if at < len(best) else None)
    return answer
