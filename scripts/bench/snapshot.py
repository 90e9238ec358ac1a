"""The first image of a large database, and what a tool does afterwards while the database is idle.

Time until an object with the whole database is listed, and until the tool has settled: no new object and less than 3% of a core for
`--quiet` seconds; watched for at most `--watch` seconds. The timed rounds go straight to the store; one more round goes
through the proxy and counts the bytes of all uploads. Limits: a copy of the database with fsync, and plain parallel PUTs of as many
bytes as lsfast stored.
"""
import concurrent.futures
import os
import pathlib
import re
import time

from . import data, report
from .session import Session

HELP = "first image of a large database"
BUSY_PART = 0.03
PART_BYTES = 8 << 20
PUTS_AT_ONCE = 4
IMAGE = re.compile(r"/0*1-[0-9a-f]{16}\.ltx$|\.snapshot\.lz4$")


def arguments(parser):
    parser.add_argument("--size", type=int, default=1024, metavar="MB", help="of the database [1024]")
    parser.add_argument("--quiet", type=float, default=40, metavar="S", help="settled means this long quiet [40: longer than a compaction]")
    parser.add_argument("--watch", type=float, default=150, metavar="S", help="watch for at most this long [150]")
    parser.add_argument("--no-count", action="store_true", help="leave out the round that counts bytes")
    parser.set_defaults(default_seconds=0, default_rounds=3, quick={"size": 24, "rounds": 1, "quiet": 4, "watch": 12})


def run(options):
    results, limits = [], []
    with Session(options, results) as session:
        origin = str(session.workspace.path / "origin.db")
        print(f"making a database of {options.size} MB", flush=True)
        data.make(origin, options.size)
        total = options.rounds + (0 if options.no_count or session.server.kind == "directory" else 1)
        for number in range(total):
            counted = number == options.rounds
            for tool in session.turns(number, session.tools):
                result = one(session, tool, origin, counted)
                results.append(result | {"round": number})
                print(f"  round {number + 1}: {tool.name}: {report.number(result['image'])} s", flush=True)
            if not counted:
                stored = [r["object_bytes"] for r in results if r["object_bytes"]]
                limits.append(limit(session, origin, stored[0] if stored else options.size << 20))
        facts = session.facts()
    print()
    show(options, facts, results, limits)


def one(session, tool, origin, counted):
    options = session.options
    folder, prefix = session.place(f"snapshot-{tool.name}")
    db = str(folder / "app.db")
    data.copy(origin, db)
    events = session.events() if counted else None
    begun = time.monotonic()
    child = tool.replicate(session.workspace, session.server, events and events.endpoint, [(db, prefix)])
    image, image_cpu, object_bytes, listed, settled = None, None, 0, {}, None
    active, curve = begun, []  # the last time it did something; (time, processor time)
    while True:
        child.check()
        now, cpu = time.monotonic(), child.cpu()
        curve.append((now, cpu))
        old = next(point for point in curve if point[0] >= now - 1)
        if cpu - old[1] > BUSY_PART * (now - old[0]) + 0.011:  # a tick of the clock is 10 ms
            active = now
        names = session.server.list(prefix)
        if names != listed:
            listed, active = names, now
            found = [size for name, size in names.items() if IMAGE.search(name)]
            if found and image is None:
                image, image_cpu, object_bytes = time.monotonic() - begun, child.cpu(), max(found)
        if image is not None and now - active > options.quiet:
            settled = active - begun
            break
        if now - begun > options.watch:
            break
        time.sleep(0.05 if image is None else 0.2)
    end = curve[-1]
    idle = next(point for point in curve if point[0] >= end[0] - min(10, options.quiet))
    result = {
        "tool": tool.name,
        "image": image if image is not None else float("nan"),
        "image_cpu": image_cpu if image_cpu is not None else float("nan"),
        "object_bytes": object_bytes,
        "settled": settled,
        "cpu": end[1],
        "watched": end[0] - begun,
        "idle_cpu_ms": (end[1] - idle[1]) / max(0.2, end[0] - idle[0]) * 1e3,
        "rss": child.status("VmHWM"),
        "disk": written(child.pid),
        "kept": sum(listed.values()),
        "counted": counted,
        "curve": [(t - begun, c) for t, c in curve[::4]],
    }
    child.kill()
    if events:
        events.stop()
        result["upload_bytes"] = sum(e["bytes"] for e in events.list if e["status"] < 300)
        result["requests"] = len(events.list)
    for path in pathlib.Path(folder).iterdir():
        if path.is_file():
            path.unlink()
    session.server.remove(prefix)
    return result


def written(pid):
    """Bytes that a process gave to the disk."""
    for line in pathlib.Path(f"/proc/{pid}/io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    return 0


def limit(session, origin, size):
    """Copy and fsync, and parallel PUTs of `size` bytes that do not compress."""
    copy = str(session.workspace.path / "copy.db")
    result = {"copy": data.copy(origin, copy)}
    os.unlink(copy)
    if session.server.kind == "directory":
        return result
    _, prefix = session.place("puts")
    body = os.urandom(PART_BYTES)
    parts = [min(PART_BYTES, size - at) for at in range(0, size, PART_BYTES)]

    def put(lane):
        client = session.server.new_client()
        for number in range(lane, len(parts), PUTS_AT_ONCE):
            client.put(f"{prefix}/{number}", body[: parts[number]])

    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(PUTS_AT_ONCE) as pool:
        list(pool.map(put, range(PUTS_AT_ONCE)))
    result["puts"] = time.monotonic() - begun
    session.server.remove(prefix)
    return result


def show(options, facts, results, limits):
    report.save(options, "snapshot", {**facts, "results": results, "limits": limits})
    rows = []
    for name in dict.fromkeys(r["tool"] for r in results):
        own = [r for r in results if r["tool"] == name]
        timed, counted = [r for r in own if not r["counted"]], [r for r in own if r["counted"]]
        middle = lambda key: report.median([r[key] for r in timed])
        settled = [r["settled"] for r in timed]
        row = [name, f"{middle('image'):.2f}", f"{middle('image_cpu'):.2f}"]
        row.append(f"{report.median(settled):.1f}" if None not in settled else f"not in {options.watch:.0f}")
        row += [f"{middle('cpu'):.2f}", f"{max(r['rss'] for r in timed) / 1e6:.0f}", f"{middle('object_bytes') / 1e6:.1f}"]
        row.append(f"{counted[0]['upload_bytes'] / 1e6:.1f}" if counted else "-")
        row += [f"{middle('kept') / 1e6:.1f}", f"{middle('disk') / 1e6:.0f}", f"{middle('idle_cpu_ms'):.1f}"]
        rows.append(row)
    for name, key in (("cp + fsync of the database", "copy"), (f"{PUTS_AT_ONCE} plain PUTs at once, as many bytes as lsfast", "puts")):
        if key in limits[0]:
            rows.append([name, f"{report.median([l[key] for l in limits]):.2f}"] + ["-"] * 9)
    heads = ["", "image s", "CPU s till then", "settled s", "CPU s in all", "peak RSS MB", "image MB", "uploaded MB", "kept MB", "disk MB"]
    report.table([*heads, "CPU ms/s at the end"], rows)
    plot = report.Plot("processor time of the first image and after", "s", "CPU s")
    for r in results:
        if r["round"] == 0:
            plot.line(r["tool"], r["curve"])
    report.write_svg(options, "snapshot", [plot])
