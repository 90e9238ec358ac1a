"""Just enough LZ4 (frames) to see how long a WAL segment of Litestream 0.3 is, and what it begins with."""


def frame(data, want=None):
    """Uncompressed length of one LZ4 frame and its first `want` bytes (of the first block)."""
    if data[:4] != b"\x04\x22\x4d\x18":
        raise ValueError("no LZ4 frame")
    flags = data[4]
    at = 7 + (8 if flags & 8 else 0) + (4 if flags & 1 else 0)
    length, begin = 0, b""
    while True:
        size = int.from_bytes(data[at : at + 4], "little")
        at += 4
        if size == 0:
            return length, begin
        raw, size = size >> 31, size & 0x7FFFFFFF
        block = data[at : at + size]
        at += size + (4 if flags & 16 else 0)
        if raw:
            begin = begin or block[: want or 0]
            length += len(block)
        else:
            if want and not begin:
                begin = _begin(block, want)
            length += _length(block)


def _count(block, at, nibble):
    if nibble == 15:
        while True:
            more = block[at]
            at += 1
            nibble += more
            if more != 255:
                break
    return nibble, at


def _length(block):
    """Length of what a block holds; nothing is decoded."""
    at, length = 0, 0
    while at < len(block):
        token = block[at]
        literals, at = _count(block, at + 1, token >> 4)
        at += literals
        length += literals
        if at >= len(block):
            break
        match, at = _count(block, at + 2, token & 15)
        length += match + 4
    return length


def _begin(block, want):
    """The first bytes of what a block holds."""
    at, out = 0, bytearray()
    while at < len(block) and len(out) < want:
        token = block[at]
        literals, at = _count(block, at + 1, token >> 4)
        out += block[at : at + literals]
        at += literals
        if at >= len(block):
            break
        back = int.from_bytes(block[at : at + 2], "little")
        match, at = _count(block, at + 2, token & 15)
        for _ in range(match + 4):
            out.append(out[-back])
    return bytes(out[:want])
