"""Commit wait: how long an application waits until its commit is stored, and what many waiting connections cost.

An application commits a row and sends `POST /sync` with `"wait": true` to the socket next to the database, as
docs/guide/frameworks.md shows. The time runs from the return of COMMIT to the answer, the connection included. A raw PUT of
`--put-bytes` over a warm connection takes turns with the commits, through the same proxy; for directories it is a file written,
flushed, renamed and its directory flushed. Then one commit is waited for over `--waiters` connections at once.
"""
import json
import os
import random
import resource
import selectors
import socket
import sqlite3
import time

from . import report, tools
from .children import Failed, wait_until
from .latency import write_file
from .session import Session

HELP = "time that an application waits until its commit is stored"


def arguments(parser):
    parser.add_argument("--gap", type=float, default=400, metavar="MS", help="average pause before each commit and each raw PUT [400]")
    parser.add_argument("--put-bytes", type=int, default=4096, help="size of the raw PUT [4096]")
    parser.add_argument("--waiters", type=int, default=1000, help="connections that wait for one commit [1000]")
    parser.set_defaults(default_seconds=60, default_rounds=3, quick={"seconds": 4, "rounds": 1, "gap": 100, "waiters": 100})


def run(options):
    results = []
    with Session(options, results) as session:
        found = [tool for tool in session.tools if tool.kind == "lsfast"]
        if not found:
            raise Failed("this measures lsfast alone: leave out --tools")
        for number in range(options.rounds):
            results += [one(session, tool, number) for tool in session.turns(number, found)]
        facts = session.facts()
    report.save(options, "wait", {**facts, "results": results})
    show(results)


def one(session, tool, number):
    options, chance = session.options, random.Random(number)
    folder, prefix = session.place(f"wait-{tool.name}")
    path = folder / "app.db"
    events = session.events()
    app = sqlite3.connect(path, isolation_level=None, timeout=5)
    app.execute("pragma journal_mode=wal")
    app.execute("pragma synchronous=normal")
    app.execute("create table t(id integer primary key, x)")
    child = tool.replicate(session.workspace, session.server, events.endpoint, [(str(path), prefix)])
    tools.wait_for_image(events, [prefix], tool, child)
    at = str(folder / ".app.db-lsfast" / "socket")
    put = raw(session, events, f"{prefix}-raw")
    wait, puts, waits = request(path), [], []
    ask(at, wait)
    put("warm")
    end = time.monotonic() + options.seconds
    while time.monotonic() < end or not waits:
        time.sleep(options.gap / 1000 * chance.uniform(0.5, 1.5))
        begun = time.perf_counter()
        put(str(len(puts)))
        puts.append((time.perf_counter() - begun) * 1e3)
        time.sleep(options.gap / 1000 * chance.uniform(0.5, 1.5))
        app.execute("insert into t(x) values(?)", ("y" * 200,))
        begun = time.perf_counter()
        answer = ask(at, wait)
        waits.append((time.perf_counter() - begun) * 1e3)
        if answer["replicated_txid"] < answer["txid"]:
            raise Failed(f"{tool.name} answered before the commit was stored: {answer}")
    crowd = [many(app, child, events, at, wait, count) for count in (1, options.waiters)]
    child.check()
    child.stop()
    app.close()
    events.stop()
    return {"tool": tool.name, "round": number, "wait_ms": waits, "put_ms": puts, "crowd": crowd}


def raw(session, events, prefix):
    body = os.urandom(session.options.put_bytes)
    if session.server.kind == "directory":
        place = session.server.path / prefix
        place.mkdir(parents=True)
        return lambda key: write_file(place / key, body)
    client = session.server.proxy_client(events.endpoint)
    return lambda key: client.put(f"{prefix}/{key}", body)


def request(path):
    body = json.dumps({"path": str(path), "wait": True, "timeout": 30}).encode()
    return b"POST /sync HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def connect(at, wait):
    stream = socket.socket(socket.AF_UNIX)
    # A path in a socket address has 107 bytes; one in this process's folders may have more.
    folder = os.open(os.path.dirname(at), os.O_PATH)
    try:
        stream.connect(f"/proc/self/fd/{folder}/{os.path.basename(at)}")
    finally:
        os.close(folder)
    stream.sendall(wait)
    return stream


def ask(at, wait):
    with connect(at, wait) as stream:
        answer = b""
        while part := stream.recv(65536):
            answer += part
    return parse(answer)


def parse(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise Failed("the socket answered: " + answer.decode(errors="replace"))
    return json.loads(body)


def many(app, child, events, at, wait, count):
    """One commit that `count` connections wait for: time until the last answer, processor time, uploads."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # Uploads of earlier commits may still end, and the kernel counts processor time in ticks: 20 turns.
    turns, seconds, cpu, stored = 20, [], child.cpu(), uploads(events)
    for _ in range(turns):
        app.execute("insert into t(x) values(?)", ("z" * 200,))
        begun = time.perf_counter()
        with selectors.DefaultSelector() as ready:
            for _ in range(count):
                ready.register(connect(at, wait), selectors.EVENT_READ, bytearray())
            left = count
            while left:
                for key, _ in ready.select(30) or fail(left):
                    part = key.fileobj.recv(65536)
                    key.data.extend(part)
                    if not part:
                        parse(bytes(key.data))
                        ready.unregister(key.fileobj)
                        key.fileobj.close()
                        left -= 1
        seconds.append((time.perf_counter() - begun) * 1e3)
    wait_until("the uploads to end", lambda: uploads(events) > stored, 30, child)
    used = (child.cpu() - cpu) * 1e3 / turns
    return {"waiters": count, "ms": seconds, "cpu_ms": used, "uploads": (uploads(events) - stored) / turns}


def uploads(events):
    return sum(event["stored"] for event in events.poll())


def fail(left):
    raise Failed(f"{left} connections still wait for their answer after 30 s")


def show(results):
    for tool in dict.fromkeys(r["tool"] for r in results):
        own = [r for r in results if r["tool"] == tool]
        rows = []
        for name, field in (("commit wait", "wait_ms"), ("raw PUT", "put_ms")):
            pooled = [v for r in own for v in r[field]]
            p50 = report.median([report.percentile(r[field], 0.5) for r in own])
            rows.append([name, len(pooled), f"{p50:.2f}"] + [f"{report.percentile(pooled, at):.2f}" for at in (0.95, 0.99)])
        wait, put = (float(row[2]) for row in rows)
        print(f"{tool}; ms; p50 is the median of the rounds. Commit wait: {wait - put:+.2f} ms, {wait / put:.2f} of a raw PUT")
        report.table(["", "count", "p50", "p95", "p99"], rows)
        rows = []
        for at in range(2):
            crowd = [r["crowd"][at] for r in own]
            last = report.median([report.median(c["ms"]) for c in crowd])
            rest = [report.median([c[field] for c in crowd]) for field in ("cpu_ms", "uploads")]
            rows.append([crowd[0]["waiters"], f"{last:.1f}", f"{rest[0]:.1f}", f"{rest[1]:.1f}"])
        print("waiting for one commit: time until the last answer, processor time of lsfast, uploads; for each commit")
        report.table(["waiters", "ms", "CPU ms", "uploads"], rows)
