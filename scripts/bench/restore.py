"""Restoring a large database, with and without increments after its image.

lsfast and Litestream 0.5 restore the very same objects, made by lsfast (or by `--source 0.5`); Litestream 0.3 restores a replica of
its own of the same database. Each restored database is compared with the original, row by row. Limits, in each round: plain parallel
GETs of the same objects in ranges, thrown away; and a copy of the database with fsync. For a directory the GETs are reads.
Each tool runs with its defaults. lsfast then compares the result with the database checksum of the replica; where that is missing
(`--source 0.5`) it lets SQLite look at the result (quick_check), and runs once more without.
A file that the replica has on two levels is read once by the plain GETs, as by a restore.
"""
import concurrent.futures
import os
import pathlib
import time

from . import data, report, tools
from .children import Failed
from .session import Session, Tracker

HELP = "restore of a large database"
RANGE_BYTES = 8 << 20
GETS, COPY = "parallel GETs", "cp + fsync"


class Unchecked:
    """lsfast, told not to let SQLite look at the result."""

    def __init__(self, tool):
        self.tool, self.kind, self.name = tool, tool.kind, f"{tool.name}, no quick_check"

    def restore(self, *args):
        return self.tool.restore(*args, ("--integrity-check", "none"))


def arguments(parser):
    parser.add_argument("--size", type=int, default=1024, metavar="MB", help="of the database [1024]")
    parser.add_argument("--increments", default="0,200", help="commits after the image, each stored by itself [0,200]")
    parser.add_argument("--parallelism", type=int, default=4, help="requests at once, of each tool and of the plain GETs [4]")
    parser.add_argument("--source", choices=["lsfast", "0.5"], default="lsfast", help="who makes the replica for both [lsfast]")
    parser.set_defaults(default_seconds=0, default_rounds=5, quick={"size": 24, "rounds": 1, "increments": "0,10"})


def run(options):
    results = []
    with Session(options, results) as session:
        by_kind = {}
        for tool in session.tools:  # settings do not matter to a restore
            by_kind.setdefault(tool.kind, tool)
        wanted = "lsfast" if options.source == "lsfast" else "litestream05"
        if wanted not in by_kind:
            raise Failed(f"--source {options.source}: it is not among the tools")
        turns = [GETS, COPY, *by_kind.values(), *(Unchecked(t) for t in by_kind.values() if t.kind == "lsfast" and options.source != "lsfast")]
        increments = sorted({int(n) for n in options.increments.split(",")})
        print(f"making a database of {options.size} MB and its replicas", flush=True)
        for count in increments:
            folder, _ = session.place("origin")
            origin = str(folder / "app.db")
            replicas = prepare(session, by_kind, wanted, origin, count)
            proof = data.summary(origin)
            for number in range(options.rounds):
                for what in session.turns(number, turns):
                    result = one(session, what, origin, replicas, proof)
                    results.append(result | {"round": number, "increments": count})
            for path in folder.iterdir():
                path.unlink() if path.is_file() else None
            for prefix in set(replicas.values()):
                session.server.remove(prefix)
        facts = session.facts()
    print()
    show(options, facts, results, increments)


def prepare(session, by_kind, wanted, origin, count):
    """The database, and a prefix for each kind of tool. Each maker works on a copy; the increments are the same rows."""
    data.make(origin, session.options.size)
    made = {}
    for kind in dict.fromkeys([wanted, *(k for k in by_kind if k == "litestream03")]):
        folder, prefix = session.place("made")
        db = str(folder / "app.db")
        data.copy(origin, db)
        fill(session, by_kind[kind], db, prefix, count)
        made[kind] = prefix
        for path in folder.iterdir():
            path.unlink() if path.is_file() else None
    app = tools.App(session.workspace, mode="sparse", dbs=[origin], seconds=0, gap=0)
    app.run()
    for _ in range(count):
        app.step()
    app.close()
    objects = {kind: len(session.server.list(prefix)) for kind, prefix in made.items()}
    print(f"  {count} increments: objects of " + ", ".join(f"{kind}: {number}" for kind, number in objects.items()), flush=True)
    return {kind: made.get(kind, made[wanted]) for kind in by_kind}


def fill(session, tool, db, prefix, count):
    """Replicates `db`, with `count` commits that are stored one by one."""
    events = session.events()
    app = tools.App(session.workspace, mode="sparse", dbs=[db], seconds=0, gap=0)
    child = tool.replicate(session.workspace, session.server, events.endpoint, [(db, prefix)], "1ms")
    tools.wait_for_image(events, [prefix], tool, child, seconds=600, quiet=3)
    tracker = Tracker(session, events, prefix, app.positions[0][0], tool)
    app.run()
    for _ in range(count):
        position = app.step()
        if tool.kind == "litestream03":
            time.sleep(0.05)  # its position is too costly to ask for; it uploads each ms
        elif not tracker.wait(*position, 30, child):
            raise Failed(f"{tool.name}: a commit is not stored after 30 s:\n{child.tail()}")
    if count and tool.kind == "litestream03" and not tracker.wait(*position, 60, child):
        raise Failed(f"{tool.name}: a commit is not stored after 60 s:\n{child.tail()}")
    child.stop(120)
    app.close()
    events.stop()


def one(session, what, origin, replicas, proof):
    options = session.options
    out = session.workspace.path / "restored.db"
    for path in session.workspace.path.glob("restored.db*"):
        path.unlink()
    os.sync()
    if what is COPY:
        return {"tool": COPY, "seconds": data.copy(origin, str(out)), "cached": data.cached(str(out))}
    if what is GETS:
        return {"tool": GETS, **gets(session, next(iter(replicas.values())), options.parallelism)}
    result = what.restore(session.workspace, session.server, replicas[what.kind], out, options.parallelism)
    result["cached"] = data.cached(str(out))
    begun = time.monotonic()
    data.flush(out)
    result["flush"] = time.monotonic() - begun
    if data.summary(str(out)) != proof:
        raise Failed(f"{what.name} restored something else than the original")
    return {"tool": what.name, **result}


def gets(session, prefix, lanes):
    """Reads all objects of a replica at once; of those with the same name on several levels, one."""
    found = session.server.list(prefix)
    sizes = {key: found[key] for key in {key.rsplit("/", 1)[1]: key for key in sorted(found)}.values()}
    parts = [(key, at, min(at + RANGE_BYTES, size) - 1) for key, size in sizes.items() for at in range(0, size, RANGE_BYTES)]

    def read(lane):
        scratch, total = bytearray(1 << 20), 0
        client = session.server.new_client() if session.server.kind == "s3" else None
        for key, first, last in parts[lane::lanes]:
            if client:
                total += client.request("GET", key, headers={"range": f"bytes={first}-{last}"}, into=scratch)[1]
            else:
                with open(pathlib.Path(session.server.path) / key, "rb", buffering=0) as file:
                    file.seek(first)
                    while (left := last + 1 - file.tell()) > 0:
                        total += file.readinto(memoryview(scratch)[: min(left, len(scratch))])
        return total

    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(lanes) as pool:
        total = sum(pool.map(read, range(lanes)))
    seconds = time.monotonic() - begun
    if total != sum(sizes.values()):
        raise Failed(f"plain GETs: {total} bytes came instead of {sum(sizes.values())}")
    return {"seconds": seconds, "bytes": total, "objects": len(sizes)}


def show(options, facts, results, increments):
    report.save(options, "restore", {**facts, "results": results})
    rows = []
    for count in increments:
        here = [r for r in results if r["increments"] == count]
        base = {name: report.median([r["seconds"] for r in here if r["tool"] == name]) for name in (GETS, COPY)}
        for name in dict.fromkeys([GETS, COPY, *(r["tool"] for r in here)]):
            own = [r for r in here if r["tool"] == name]
            middle = lambda key: report.median([r[key] for r in own])
            row = [count, name, f"{middle('seconds'):.2f}", f"{middle('seconds') / max(base.values()):.2f}"]
            if "cpu" in own[0]:
                row += [f"{middle(key):.2f}" for key in ("user", "system", "cpu")]
                row += [f"{max(r['rss'] for r in own) / 1e6:.0f}", f"{middle('flush'):.2f}"]
            else:
                row += ["-"] * 5
            row.append(f"{middle('cached') / 1e6:.0f}" if "cached" in own[0] else "-")
            row += [own[0].get("objects", "-"), f"{own[0]['bytes'] / 1e6:.1f}" if "bytes" in own[0] else "-"]
            rows.append(row)
    print("ratio: to the slower of the two limits; flush: what an fsync after the end still takes; cached: of the new file, in the page cache")
    report.table(["increments", "", "s", "ratio", "user s", "system s", "CPU s", "RSS MB", "flush s", "cached MB", "objects", "MB"], rows)
    plot = report.Plot("restore: each round", "s", "part of the rounds")
    for r in dict.fromkeys((r["tool"], r["increments"]) for r in results):
        plot.line(f"{r[0]}, {r[1]}", report.cdf([x["seconds"] for x in results if (x["tool"], x["increments"]) == r]))
    report.write_svg(options, "restore", [plot])
