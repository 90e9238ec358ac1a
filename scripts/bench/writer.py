"""What an application notices: one writer in a closed loop, alone and beside each tool, in turns.

Rows have 200 bytes, in transactions of 1 or 100. Ratios are to the writer alone in the same round. Processor time is that of the tool
from the first commit until all is stored; the lag at the end is the time from the last commit until an object that holds it was
answered. The tools upload through the proxy, which takes some processor time of its own, the same for all.

After each turn of lsfast with a server comes one in which the writer runs beside plain PUTs of as many bytes at the same times, through the same proxy:
what the store takes on the same machine, whoever uploads.
"""
from . import report, tools
from .children import Failed
from .session import Session, Tracker

HELP = "what a writer in a closed loop keeps of its speed"
LOADS = "off:1,normal:1,full:1,normal:100,full:100"
DRAIN_SECONDS = 120
ALONE = "alone"
PUTS = "plain PUTs"


def arguments(parser):
    parser.add_argument("--loads", default=LOADS, metavar="LIST", help=f"synchronous:rows, by commas [{LOADS}]")
    parser.add_argument("--busy-timeout", type=float, default=5, metavar="S", help="of the application [5]")
    parser.set_defaults(default_seconds=10, default_rounds=3, quick={"seconds": 1, "rounds": 1, "loads": "normal:1,full:100"})


def run(options):
    loads = []
    for load in options.loads.split(","):
        synchronous, _, rows = load.partition(":")
        if synchronous not in ("off", "normal", "full") or not rows.isdigit():
            raise Failed(f"--loads: {load} is not SYNCHRONOUS:ROWS, as in full:100")
        loads.append((synchronous, int(rows)))
    results = []
    with Session(options, results) as session:
        for number in range(options.rounds):
            for synchronous, rows in loads:
                for tool in session.turns(number, [None, *session.tools]):
                    result = one(session, tool, synchronous, rows)
                    results.append(result | {"round": number, "load": f"{synchronous}, {rows}"})
                    tell(number, synchronous, rows, result)
                    if tool and tool.kind == "lsfast" and session.server.kind != "directory":
                        puts = beside_puts(session, synchronous, rows, result)
                        results.append(puts | {"round": number, "load": f"{synchronous}, {rows}", "of": result["tool"]})
                        tell(number, synchronous, rows, puts)
        facts = session.facts()
    print()
    show(options, facts, results)


def tell(number, synchronous, rows, result):
    print(f"  round {number + 1}: {synchronous}, {rows}: {result['tool']}: {result['rate']:.0f} commits/s", flush=True)


def application(session, db, synchronous, rows):
    options = session.options
    return tools.App(
        session.workspace,
        mode="loop",
        dbs=[db],
        synchronous=synchronous,
        rows=rows,
        seconds=options.seconds,
        busy_timeout=options.busy_timeout,
    )


def beside_puts(session, synchronous, rows, replicated):
    """The writer beside PUTs as those of a turn of lsfast, and nobody that reads its log."""
    folder, prefix = session.place("writer-puts")
    events = session.events()
    app = application(session, str(folder / "app.db"), synchronous, rows)
    puts = tools.Puts(session.workspace, session.server, events.endpoint, prefix, replicated["puts"])
    puts.go()
    answer = app.run()
    puts.read()
    app.close()
    events.stop()
    remove(folder)
    session.server.remove(prefix)
    return {"tool": PUTS, **answer}


def one(session, tool, synchronous, rows):
    name = tool.name if tool else ALONE
    folder, prefix = session.place(f"writer-{name}")
    db = str(folder / "app.db")
    events = session.events() if tool else None
    app = application(session, db, synchronous, rows)
    if not tool:
        answer = app.run()
        app.close()
        remove(folder)
        return {"tool": name, **answer}
    child = tool.replicate(session.workspace, session.server, events.endpoint, [(db, prefix)])
    tools.wait_for_image(events, [prefix], tool, child)
    cpu = child.cpu()
    answer = app.run()
    child.check()
    tracker = Tracker(session, events, prefix, app.positions[0][0], tool)
    stored = tracker.wait(*answer["samples"][-1][2:4], DRAIN_SECONDS, child)
    cpu = child.cpu() - cpu
    result = {"tool": name, **answer, "cpu_us_per_row": cpu / max(1, answer["rows"]) * 1e6, "rss": child.status("VmHWM")}
    lags = tracker.lags([(s[0], s[2], s[3]) for s in answer["samples"]])
    result["lag_end"] = lags[-1]
    result["lags"] = [(s[0] - answer["begun"], lag) for s, lag in zip(answer["samples"], lags) if lag is not None]
    if not stored:
        print(f"bench: {name}: not all is stored {DRAIN_SECONDS} s after the last commit", flush=True)
    begun = answer["begun"]
    puts = [e for e in events.poll() if e["stored"] and e["t"] >= begun]
    result["uploads"], result["upload_bytes"] = len(puts), sum(e["bytes"] for e in puts)
    result["puts"] = [(e["t"] - begun, e["bytes"]) for e in puts]
    log = child.log.read_text(errors="replace")
    result["unproven"] = log.count("is not proven") if tool.kind == "lsfast" else None
    child.stop()
    app.close()
    events.stop()
    remove(folder)
    session.server.remove(prefix)
    return result


def remove(folder):
    """Logs grow to gigabytes beside some tools: they go at once."""
    for path in folder.iterdir():
        if path.is_file():
            path.unlink()


def spread(ratios):
    """Their median and, of enough of them, the middle half."""
    if not ratios:
        return "-"
    text = f"{report.median(ratios):.2f}"
    return text if len(ratios) < 4 else text + f" ({report.percentile(ratios, 0.25):.2f} to {report.percentile(ratios, 0.75):.2f})"


def show(options, facts, results):
    report.save(options, "writer", {**facts, "results": results})
    rows = []
    for load in dict.fromkeys(r["load"] for r in results):
        here = [r for r in results if r["load"] == load]
        alone = {r["round"]: r["rate"] for r in here if r["tool"] == ALONE}
        limits = {(r["round"], r["of"]): r["rate"] for r in here if r["tool"] == PUTS}
        for name in [ALONE] + sorted({r["tool"] for r in here} - {ALONE}, key=lambda n: (n != PUTS, n != "lsfast", n)):
            own = [r for r in here if r["tool"] == name]
            middle = lambda key: report.median([r[key] for r in own])
            row = [load, name, f"{middle('rate'):.0f}", spread([r["rate"] / alone[r["round"]] for r in own])]
            row.append(spread([r["rate"] / limits[r["round"], name] for r in own if (r["round"], name) in limits]))
            row += [f"{middle('p50') * 1e6:.0f}", f"{middle('p999') * 1e3:.1f}", f"{report.median([r['max'] for r in own]) * 1e3:.0f}"]
            row += [f"{middle('wal') / 1e6:.1f}", sum(r["busy"] for r in own)]
            if "rss" in own[0]:
                lag = report.number(report.median([r["lag_end"] for r in own if r["lag_end"] is not None]) * 1e3, "%.0f")
                row += [f"{middle('cpu_us_per_row'):.2f}", f"{max(r['rss'] for r in own) / 1e6:.0f}", lag]
                row += [f"{middle('uploads'):.0f}", f"{middle('upload_bytes') / 1e6:.1f}"]
                row.append("-" if own[0]["unproven"] is None else sum(r["unproven"] for r in own))
            rows.append(row + ["-"] * (16 - len(row)))
    heads = ["synchronous, rows", "beside", "commits/s", "ratio", "to PUTs", "p50 us", "p99.9 ms", "longest ms", "log MB", "busy"]
    heads += ["CPU us/row", "peak RSS MB", "lag at the end ms", "uploads", "upload MB", "unproven"]
    report.table(heads, rows)
    plots = []
    for load in dict.fromkeys(r["load"] for r in results):
        size = report.Plot(f"size of the log: synchronous, rows: {load}", "s", "MB", log_y=True)
        lag = report.Plot(f"lag: synchronous, rows: {load}", "s", "ms", log_y=True)
        for r in results:
            if r["load"] == load and r["round"] == 0:
                size.line(r["tool"], [(s[0] - r["begun"], s[4] / 1e6) for s in r["samples"]])
                lag.line(r["tool"], [(at, value * 1e3) for at, value in r.get("lags", [])])
        plots += [size, lag]
    report.write_svg(options, "writer", plots)
