"""Samples of a soak, what may not grow, and the page at the end."""
import statistics
import time

from bench import report

from .world import RETENTION

EVERY = 3.0
# The replicas are listed less often: it costs the store.
LISTED_EVERY = 30.0
# Lives of lsfast that last as long as SHOWN are on the page. Only after LIFE has memory settled, and after twice that WALs,
# whose files keep the length of the largest transaction.
SHOWN, LIFE = 150, 1200
# What the median of the last quarter may exceed that of the second by: a share, and a number.
ALLOWED = {"rss": (0.25, 16 << 20), "descriptors": (0.1, 8), "threads": (0.1, 4), "wal": (0.5, 4 << 20), "objects": (0.3, 50), "stored": (0.3, 4 << 20)}
UNITS = {"rss": 1 << 20, "wal": 1 << 20, "stored": 1 << 20}


class Sampler:
    def __init__(self, world, journal, stop):
        self.world, self.journal, self.stop = world, journal, stop
        self.listed = 0

    def run(self):
        while not self.stop.wait(EVERY):
            self.take()

    def take(self):
        world, now = self.world, time.monotonic()
        sample = {"t": round(now - self.journal.begun, 1), "life": world.lives, "age": round(now - world.begun, 1)}
        child = world.lsfast
        try:
            sample |= {"rss": child.status("VmRSS"), "descriptors": child.descriptors(), "threads": child.status("Threads") // 1024}
        except (OSError, ValueError):
            pass  # between two lives
        sample["wal"] = {d.name: d.wal_bytes() for d in world.databases}
        self.journal.samples.append(sample)
        if now - self.listed > LISTED_EVERY:
            self.listed = now
            found = {}
            for replica in world.replicas:
                client = replica.server if replica.kind == "dir" else replica.server.new_client()
                try:
                    sizes = client.list(replica.prefix + ("" if replica.kind == "dir" else "/"))
                    found[replica.name] = [len(sizes), sum(sizes.values())]
                except Exception as error:
                    self.journal.note(f"{replica.name} cannot be listed: {error}")
            self.journal.replicas.append({"t": sample["t"], "replicas": found})


def trend(what, values, judged=True):
    """The medians of the second and of the last quarter; and whether that is growth."""
    quarter = len(values) // 4
    second, last = (statistics.median(v) for v in (values[quarter : 2 * quarter], values[-quarter:]))
    share, number = ALLOWED[what]
    return second, last, judged and last > second * (1 + share) + number


def trends(journal):
    """Rows for the page, and how many of them grow."""
    rows, lives = [], {}
    for sample in journal.samples:
        if "rss" in sample:
            lives.setdefault(sample["life"], []).append(sample)
    for life, samples in lives.items():
        if samples[-1]["age"] >= SHOWN:
            name = f"life {life} of lsfast, {samples[-1]['age'] / 60:.0f} min"
            judged = samples[-1]["age"] >= LIFE
            rows += [(name, what, *trend(what, [s[what] for s in samples], judged)) for what in ("rss", "descriptors", "threads")]
    if len(journal.samples) >= 40:
        judged = journal.samples[-1]["t"] >= 2 * LIFE
        for name in journal.samples[0]["wal"]:
            rows.append((f"WAL of {name}", "wal", *trend("wal", [s["wal"][name] for s in journal.samples], judged)))
    # Until a while after the first retention, replicas have to grow.
    grown = [r for r in journal.replicas if r["t"] > 2 * RETENTION]
    if len(grown) * LISTED_EVERY > 2 * RETENTION:
        for name in grown[0]["replicas"]:
            for at, what in enumerate(("objects", "stored")):
                rows.append((f"replica of {name}", what, *trend(what, [r["replicas"][name][at] for r in grown if name in r["replicas"]])))
    return rows


def plots(options, journal):
    def lines(title, unit, series):
        plot = report.Plot(title, "minutes", unit)
        for name, points in series.items():
            plot.line(name, [(t / 60, v) for t, v in points])
        return plot

    def of(field, scale=1):
        return {field: [(s["t"], s[field] / scale) for s in journal.samples if field in s]}

    names = journal.samples[0]["wal"] if journal.samples else []
    wals = {n: [(s["t"], s["wal"][n] / (1 << 20)) for s in journal.samples] for n in names}
    stored = {n: [(r["t"], r["replicas"][n][1] / (1 << 20)) for r in journal.replicas if n in r["replicas"]] for n in names_of(journal)}
    objects = {n: [(r["t"], r["replicas"][n][0]) for r in journal.replicas if n in r["replicas"]] for n in names_of(journal)}
    report.write_svg(options, "soak", [
        lines("Resident memory of lsfast", "MiB", of("rss", 1 << 20)),
        lines("Descriptors and threads of lsfast", "number", of("descriptors") | of("threads")),
        lines("WAL", "MiB", wals), lines("Replicas", "MiB", stored), lines("Objects of the replicas", "number", objects)])


def names_of(journal):
    return dict.fromkeys(n for r in journal.replicas for n in r["replicas"])


def write(options, world, journal, began, machine):
    """The page; returns whether the soak has found something."""
    minutes = (time.monotonic() - journal.begun) / 60
    say = [f"soak of {minutes:.1f} minutes, begun {began}, seed {options.seed}, store {world.server.name}",
           f"{machine['cores']} x {machine['cpu']}, Linux {machine['kernel']}, load {machine['load_before']:.1f} before", ""]
    figures = {d.name: d.figures() for d in world.databases}
    say.append(f"{'database':14}{'commits':>10}{'busy':>7}{'errors':>8}{'longest ms':>12}{'checkpoints':>13}{'most WAL MiB':>14}")
    for name, f in figures.items():
        wal = max((s["wal"][name] for s in journal.samples), default=0) / (1 << 20)
        say.append(f"{name:14}{f['commits']:10}{f['busy']:7}{f['errors']:8}{f['longest'] / 1000:12.0f}{f['checkpoints']:13}{wal:14.1f}")
    say += [f"{'all':14}{sum(f['commits'] for f in figures.values()):10}", ""]
    for what, number in sorted(journal.counts.items()):
        longest = f"   longest {journal.longest[what]:.1f} s" if what in journal.longest else ""
        say.append(f"{number:8} {what}{longest}")
    say += ["", "warnings and errors that lsfast logged:"]
    say += [f"{number:8} {level}: {text}" for (level, text), number in journal.said.most_common(25)]
    rows = trends(journal)
    say += ["", "median of the second quarter, of the last quarter:"]
    say += [f"{name:36}{what:12}{a / UNITS.get(what, 1):10.1f}{b / UNITS.get(what, 1):10.1f}{'   GROWS' if grows else ''}" for name, what, a, b, grows in rows]
    if max((s["age"] for s in journal.samples), default=0) < LIFE:
        say.append(f"no life of lsfast lasted {LIFE // 60} minutes: memory and descriptors are not judged")
    grown = [row for row in rows if row[4]]
    say += ["", f"{len(journal.differences)} differences, {len(grown)} of {len(rows)} curves grow"]
    say += [f"- {d[:1500]}" for d in journal.differences[:20]]
    if journal.differences:
        say += ["", f"The same accidents again: scripts/soak.sh {options.hours:g} --seed {options.seed} (their moments differ, as processes do).",
                f"events.txt in {journal.out} says what had happened before. Look at a kept replica with lsfast verify,",
                "lsfast points and lsfast restore file://DIR; table `state` of a database has the number of its last transaction."]
    text = "\n".join(say) + "\n"
    print("\n" + text, flush=True)
    (journal.out / "soak.txt").write_text(text)
    report.save(options, "soak", {
        "machine": machine, "seed": options.seed, "minutes": minutes, "databases": figures, "counts": journal.counts, "longest": journal.longest,
        "differences": journal.differences, "trends": rows, "samples": journal.samples, "replicas": journal.replicas,
        "logged": [[*what, number] for what, number in journal.said.items()]})
    plots(options, journal)
    return bool(journal.differences or grown)
