"""Commit to stored, for sparse commits.

An application commits one row at a time with random pauses. A commit counts as stored when the first object that holds it was
answered (position.py says how that is known, proxy.py when). The limit is a plain signed PUT of `--put-bytes` over a warm connection
at the same pauses: through the same proxy, which is what the tools can be compared with, and straight to the store, which
shows what the proxy costs. `lsfast bench` measures both in its own way, straight to the store, or through a proxy where that adds TLS or
a round trip. For directories the limit is a file written, flushed, renamed and its directory flushed.
"""
import json
import os
import random
import subprocess
import time

from . import report, tools
from .children import Failed, environment
from .session import Session, Tracker, check_all_stored

HELP = "time from a commit until it is stored, sparse commits"
RAW, RAW_PROXY = "raw PUT, direct", "raw PUT"


def arguments(parser):
    parser.add_argument("--gap", type=float, default=1500, metavar="MS", help="average pause between commits [1500]")
    parser.add_argument("--synchronous", default="normal,full", help="[normal,full]")
    parser.add_argument("--put-bytes", type=int, default=4096, help="size of the raw PUT [4096]")
    parser.set_defaults(default_seconds=60, default_rounds=3, quick={"seconds": 4, "rounds": 1, "gap": 150})


def run(options):
    results = []
    with Session(options, results) as session:
        levels = options.synchronous.split(",")
        for number in range(options.rounds):
            for synchronous in levels:
                for tool in session.turns(number, [None, *session.tools]):
                    result = one_raw(session, number) if tool is None else one(session, tool, synchronous, number)
                    for part in result:
                        part["round"], part["synchronous"] = number, synchronous
                    results += result
            results += own_bench(session, number)
        facts = session.facts()
    show(options, facts, results, levels)


def one(session, tool, synchronous, number):
    options = session.options
    folder, prefix = session.place(f"latency-{tool.name}")
    db = str(folder / "app.db")
    events = session.events()
    app = tools.App(
        session.workspace, mode="sparse", dbs=[db], synchronous=synchronous, gap=options.gap / 1000, seconds=options.seconds, seed=number
    )
    child = tool.replicate(session.workspace, session.server, events.endpoint, [(db, prefix)])
    tools.wait_for_image(events, [prefix], tool, child)
    cpu = child.cpu()
    answer = app.run()
    cpu = child.cpu() - cpu
    commits = answer["commits"]
    if not commits:
        raise Failed("no commit in this time: more --seconds, or a smaller --gap")
    tracker = Tracker(session, events, prefix, app.positions[0][0], tool)
    tracker.wait(*commits[-1][2:], 15, child)
    lags = tracker.lags([c[1:] for c in commits])
    rss = child.status("VmHWM")
    child.stop()
    app.close()
    events.stop()
    uploads = sum(e["stored"] and commits[0][0] <= e["t"] for e in events.list)
    seen = [lag for lag in lags if lag is not None]
    check_all_stored(len(seen), len(lags), tool)
    return [
        {
            "tool": tool.name,
            "lags_ms": [lag * 1e3 for lag in seen],
            "commit_ms": [(c[1] - c[0]) * 1e3 for c in commits],
            "commits": len(lags),
            "missing": len(lags) - len(seen),
            "busy": answer["busy"],
            "uploads": uploads,
            "cpu_percent": cpu / options.seconds * 100,
            "rss": rss,
        }
    ]


def one_raw(session, number):
    """Raw PUTs, through a proxy and not, in turns."""
    options, chance = session.options, random.Random(number)
    folder, prefix = session.place("raw")
    body = os.urandom(options.put_bytes)
    if session.server.kind == "directory":
        place = session.server.path / prefix
        place.mkdir(parents=True)
        ways = {RAW: lambda key: write_file(place / key, body)}
    else:
        events = session.events()
        direct, through = session.server.new_client(), session.server.proxy_client(events.endpoint)
        ways = {
            RAW: lambda key: direct.put(f"{prefix}/d-{key}", body),
            RAW_PROXY: lambda key: through.put(f"{prefix}/p-{key}", body),
        }
    times = {name: [] for name in ways}
    for put in ways.values():
        put("warm")
    end, at = time.monotonic() + options.seconds, 0
    while time.monotonic() < end or not at:
        for name, put in ways.items():
            time.sleep(options.gap / 1000 * chance.uniform(0.5, 1.5) / len(ways))
            begun = time.perf_counter()
            put(str(at))
            times[name].append((time.perf_counter() - begun) * 1e3)
        at += 1
    if session.server.kind != "directory":
        events.stop()
    return [{"tool": name, "lags_ms": values, "commits": len(values)} for name, values in times.items()]


def write_file(path, body):
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def own_bench(session, number):
    """What `lsfast bench` says, which has its own writer."""
    lsfast = next((t for t in session.tools if t.kind == "lsfast"), None)
    if not lsfast:
        return []
    _, prefix = session.place("own")
    seconds = max(1, int(session.options.seconds / 4))
    events = session.events() if through_proxy(session.options) else None
    url = tools.lsfast_url(session.server, events.endpoint if events else session.server.endpoint, prefix)
    command = [lsfast.binary, "bench", "--json", "--duration", f"{seconds}s", url]
    done = subprocess.run(command, env=environment(session.server.tool_env()), capture_output=True, text=True, timeout=seconds + 120)
    if events:
        events.stop()
    if done.returncode:
        raise Failed("lsfast bench failed:\n" + done.stderr)
    return [{"tool": "lsfast bench", "round": number, "own": json.loads(done.stdout)}]


def through_proxy(options):
    return options.dir is None and (options.tls or options.rtt > 0)


def show(options, facts, results, levels):
    report.save(options, "latency", {**facts, "results": results})
    plot = report.Plot("from commit to stored", "ms", "part of the commits", log_x=True)
    for synchronous in levels:
        here = [r for r in results if r.get("synchronous") == synchronous]
        names = list(dict.fromkeys(r["tool"] for r in sorted(here, key=lambda r: r["tool"])))
        limit = RAW_PROXY if RAW_PROXY in names else RAW
        base = {part: report.percentile(_pooled(here, limit), part) for part in (0.5, 0.99)}
        rows = []
        for name in names:
            own, pooled = [r for r in here if r["tool"] == name], _pooled(here, name)
            p50 = report.median([report.percentile(r["lags_ms"], 0.5) for r in own])
            p99 = report.percentile(pooled, 0.99)
            row = [name, sum(r["commits"] for r in own), f"{p50:.2f}", f"{report.percentile(pooled, 0.95):.2f}", f"{p99:.2f}", f"{max(pooled):.2f}"]
            row += [f"{p50 / base[0.5]:.2f}", f"{p99 / base[0.99]:.2f}"]
            if "rss" in own[0]:
                extra = [report.median([r["cpu_percent"] for r in own]), max(r["rss"] for r in own) / 1e6]
                row += [report.median([report.percentile(r["commit_ms"], 0.5) for r in own]), f"{extra[0]:.1f}", f"{extra[1]:.0f}"]
                row[-3] = f"{row[-3]:.2f}"
                row += [sum(r["uploads"] for r in own), sum(r["missing"] for r in own)]
            rows.append(row + ["-"] * (13 - len(row)))
            plot.line(f"{name}, {synchronous}", report.cdf(pooled))
        print(f"synchronous={synchronous}; ms; p50 is the median of the rounds, p95 and p99 are of all commits; ratios to `{limit}`")
        heads = ["", "commits", "p50", "p95", "p99", "max", "p50 ratio", "p99 ratio", "commit itself", "CPU %", "RSS MB", "uploads", "not stored"]
        report.table(heads, rows)
    owns = [r["own"] for r in results if "own" in r]
    if owns:
        way = "through a proxy" if through_proxy(options) else "no proxy"
        print(f"lsfast bench (its own writer, 50 ms between commits, {way}), ms, medians of the rounds")
        rows = []
        for field in ("commit_to_stored", "raw_put"):
            values = [[o[field][p] / 1e3 for o in owns] for p in ("p50_us", "p95_us", "p99_us")]
            rows.append([field.replace("_", " "), sum(o[field]["count"] for o in owns)] + [f"{report.median(v):.2f}" for v in values])
        report.table(["", "count", "p50", "p95", "p99"], rows)
    report.write_svg(options, "latency", [plot])


def _pooled(results, name):
    return [lag for r in results if r["tool"] == name for lag in r["lags_ms"]]
