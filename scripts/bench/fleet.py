"""Many databases under one process: idle, then each with a few commits, then started again with its local state.

An application has the databases open (or the first `--open` of them) the whole time. In order: first start, until something is stored
for each database; idle, for `--idle` seconds; commits at random times, spread evenly, for `--seconds`; stop, one commit in each
of ten databases, start again, until these ten are stored.
"""
import shutil
import sqlite3
import time

from . import position, report, tools
from .children import Failed, wait_until
from .session import Session, check_all_stored

HELP = "many databases: idle, at a low rate, and starting"
FLEETS = "100:1,1000:0.1"
START_SECONDS = 600
SPREAD = 10


def arguments(parser):
    parser.add_argument("--fleets", default=FLEETS, metavar="LIST", help=f"databases:commits a second in each, by commas [{FLEETS}]")
    parser.add_argument("--idle", type=float, default=30, metavar="S", help="how long to look at the idle fleet [30]")
    parser.add_argument("--settle", type=float, default=35, metavar="S", help="how long to wait before that [35]")
    parser.add_argument("--open", type=int, metavar="N", help="databases that the application has open [all]")
    parser.add_argument("--with-fast", action="store_true", help="Litestream at 1 ms too (it takes all there is)")
    parser.set_defaults(default_seconds=20, default_rounds=3, quick={"seconds": 4, "rounds": 1, "idle": 4, "settle": 0, "fleets": "12:1"})


def run(options):
    fleets = []
    for fleet in options.fleets.split(","):
        count, _, rate = fleet.partition(":")
        try:
            fleets.append((int(count), float(rate)))
        except ValueError:
            raise Failed(f"--fleets: {fleet} is not DATABASES:RATE, as in 100:1") from None
    need, limit = max(n for n, _ in fleets) * 8 + 1000, tools.descriptor_limit()
    if limit < need:
        print(f"bench: at most {limit} open files here, {need} may be needed: raise the limit (ulimit -Hn), or use --open")
    results = []
    with Session(options, results) as session:
        chosen = [t for t in session.tools if options.with_fast or options.tools or not (t.fast and t.kind == "litestream05")]
        for tool in chosen:
            if not tool.follows_many():
                raise Failed(f"{tool.binary} is too old: its replicate takes no --config; build it again, or leave it out by --tools")
        for count, rate in fleets:
            for number in range(options.rounds):
                for tool in session.turns(number, chosen):
                    results.append(one(session, tool, count, rate, number) | {"round": number})
                    print(f"  round {number + 1}: {count} databases: {tool.name}", flush=True)
        facts = session.facts()
    print()
    show(options, facts, results)


def one(session, tool, count, rate, number):
    options = session.options
    folder, prefix = session.place(f"fleet-{tool.name}")
    names = [f"d{i:05}" for i in range(count)]
    make(folder, names)
    pairs = [(str(folder / f"{name}.db"), f"{prefix}/{name}") for name in names]
    open_now = min(count, options.open or count)
    paths = [path for path, _ in pairs[:open_now]]
    app = tools.App(session.workspace, mode="fleet", dbs=paths, rate=rate * count, seconds=options.seconds, seed=number)
    events = session.events()
    result = {"tool": tool.name, "databases": count, "rate": rate}

    begun = time.monotonic()
    child = tool.replicate(session.workspace, session.server, events.endpoint, pairs)
    prefixes = {p for _, p in pairs}
    result["start"] = first_images(events, prefixes, tool, child) - begun
    wait_for_quiet(events, child)
    # State is flushed half a minute after the last change; what is idle after that stays idle.
    time.sleep(options.settle)

    cpu, at, seen = child.cpu(), time.monotonic(), len(events.poll())
    time.sleep(options.idle)
    seconds = time.monotonic() - at
    result |= {"idle_cpu_ms": (child.cpu() - cpu) / seconds * 1e3, "idle_requests": len(events.poll()) - seen}
    result |= {"rss": child.status("VmRSS"), "descriptors": child.descriptors()}

    cpu = child.cpu()
    answer = app.run()
    reached = Fleet(session, events, app.positions, pairs)
    commits = answer["commits"]
    last = {c[4]: (c[2], c[3]) for c in commits}
    waiting_for(reached, last, 60, child)
    result |= {"cpu": child.cpu() - cpu, "commits": len(commits), "busy": answer["busy"], "behind_ms": answer["behind"] * 1e3}
    lags = reached.lags(commits)
    result["lags_ms"] = [lag * 1e3 for lag in lags if lag is not None]
    result["rss_busy"] = child.status("VmHWM")
    check_all_stored(len(result["lags_ms"]), len(lags), tool)

    child.stop(180)
    some = sorted({i * open_now // SPREAD for i in range(SPREAD)})
    moved = {which: app.step(which) for which in some}
    begun = time.monotonic()
    child = tool.replicate(session.workspace, session.server, events.endpoint, pairs)
    result["restart"] = time.monotonic() - begun if waiting_for(reached, moved, 180, child) else None
    if result["restart"] is not None:
        result["restart"] = max(reached.when(which, *place) for which, place in moved.items()) - begun
    child.kill()
    app.close()
    events.stop()
    shutil.rmtree(folder)
    session.server.remove(prefix)
    return result


def make(folder, names):
    """Small databases, all alike, in WAL mode and closed."""
    first = folder / f"{names[0]}.db"
    app = sqlite3.connect(first, isolation_level=None)
    app.executescript("pragma journal_mode=wal; create table t(id integer primary key, x); insert into t(x) values('one')")
    app.close()
    for name in names[1:]:
        shutil.copyfile(first, folder / f"{name}.db")


def first_images(events, prefixes, tool, child):
    """When the last database of all had something stored."""
    left, at, when = set(prefixes), 0, 0.0

    def all_there():
        nonlocal at, when
        new = events.poll()[at:]
        at += len(new)
        for event in new:
            if event["stored"] and (found := replica(event["path"])) in left:
                left.discard(found)
                when = event["t"]
        return not left

    wait_until(f"the first images of {len(prefixes)} databases by {tool.name}", all_there, START_SECONDS, child, every=0.05)
    return when


def replica(path):
    """The prefix of the replica that an object is in: RUN/PLACE/DATABASE, after the bucket if there is one."""
    parts = path.strip("/").split("/")
    at = next((i for i, part in enumerate(parts) if part.startswith("bench-")), 0)
    return "/".join(parts[at : at + 3])


def wait_for_quiet(events, child, seconds=60, quiet=3):
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        child.check()
        stored = [e["t"] for e in events.poll() if e["stored"]]
        if time.monotonic() - stored[-1] > quiet:
            return
        time.sleep(0.1)


class Fleet:
    """How far each database is stored."""

    def __init__(self, session, events, positions, pairs):
        self.session, self.events, self.bases = session, events, [p[0] for p in positions]
        self.prefixes = [p for _, p in pairs]
        self.index = {p: i for i, p in enumerate(self.prefixes)}
        self.at, self.own, self.bodies = 0, {}, {}

    def _fetch(self, key):
        if key not in self.bodies:
            self.bodies[key] = self.session.server.get(key)
        return self.bodies[key]

    def found(self, which):
        """What is stored of one database."""
        new = self.events.poll()[self.at :]
        self.at += len(new)
        for event in new:
            if event["stored"] and (index := self.index.get(replica(event["path"]))) is not None:
                self.own.setdefault(index, []).append(event)
        return position.stored(self.own.get(which, []), self.prefixes[which], self.bases[which], self._fetch)

    def place(self, which, salt, end):
        return position.after(salt, self.bases[which]), end

    def when(self, which, salt, end):
        """When a position of a database was stored."""
        target = self.place(which, salt, end)
        return next((t for t, p in self.found(which) if p >= target), None)

    def lags(self, commits):
        answer = []
        for which in sorted({c[4] for c in commits}):
            own = [(c[1], self.place(which, c[2], c[3])) for c in commits if c[4] == which]
            answer += position.lags(own, self.found(which))
        return answer


def waiting_for(reached, places, seconds, child):
    """Waits until a place in each of some databases is stored; whether it came to that."""
    left, limit = dict(places), time.monotonic() + seconds
    while left and time.monotonic() < limit:
        child.check()
        left = {which: place for which, place in left.items() if reached.when(which, *place) is None}
        time.sleep(0.1 if left else 0)
    return not left


def show(options, facts, results):
    report.save(options, "fleet", {**facts, "results": results})
    rows, plot = [], report.Plot("fleet: from commit to stored", "ms", "part of the commits", log_x=True)
    for count, rate in dict.fromkeys((r["databases"], r["rate"]) for r in results):
        here = [r for r in results if r["databases"] == count and r["rate"] == rate]
        for name in dict.fromkeys(r["tool"] for r in sorted(here, key=lambda r: r["tool"] != "lsfast")):
            own = [r for r in here if r["tool"] == name]
            middle = lambda key: report.median([r[key] for r in own])
            pooled = [lag for r in own for lag in r["lags_ms"]]
            row = [count, name, f"{middle('start'):.2f}", report.number(middle("restart")), f"{middle('idle_cpu_ms'):.2f}"]
            row += [f"{middle('rss') / 1e6:.0f}", f"{middle('rss') / 1024 / count:.0f}", f"{middle('descriptors'):.0f}", f"{middle('idle_requests'):.0f}"]
            row += [f"{count * rate:g}", len(pooled), f"{report.median([report.percentile(r['lags_ms'], 0.5) for r in own]):.1f}"]
            row += [f"{report.percentile(pooled, 0.99):.1f}", f"{middle('cpu'):.2f}", f"{middle('rss_busy') / 1e6:.0f}"]
            rows.append(row)
            plot.line(f"{name}, {count} at {rate:g}/s", report.cdf(pooled))
    print(f"idle for {options.idle:g} s; commits for {options.seconds:g} s; p50 is the median of the rounds, p99 is of all commits")
    heads = ["databases", "", "start s", "restart s", "idle CPU ms/s", "RSS MB", "KB each", "descriptors", "requests", "commits/s"]
    report.table([*heads, "commits", "p50 ms", "p99 ms", "CPU s", "peak RSS MB"], rows)
    report.write_svg(options, "fleet", [plot])
