"""A soak: lsfast under mixed load, kills, outages and a standby for hours, with restores by lsfast and Litestream throughout.

    scripts/fetch-peers.sh && cargo build --release
    scripts/soak.sh 24                     a day
    scripts/soak.sh 0.2 --seed 7           twelve minutes

Nine databases are written by processes of their own: steadily and without a busy timeout, in bursts, by three processes,
in large transactions, with VACUUM, with checkpoints of all modes, hardly ever, by an application that closes its
database, and by one that is killed. One lsfast replicates them to S3 (SeaweedFS of scripts/fetch-peers.sh, MinIO by
MINIO_BIN, or --endpoint) and to a directory, with levels of 10 s, 60 s and 5 min, an image every 2 minutes and a
retention of 10 minutes. It is killed, ended, halted and reloaded, its local state is lost, and its store refuses, hangs,
answers 503 or loses answers. A standby follows and is killed.

Each transaction is a function of the seed and its number, so each restored database proves itself, row by row. A
difference is: a state that never was; a newest state without what a restore, `lsfast sync --wait` or a clean end had
shown to be stored; a state that is offered and not restored; a failed `lsfast verify`; a standby that goes back, falls
behind or shows what never was; SQLITE_BUSY where one writer has a database for itself; an error that lsfast logs; an end
of lsfast that nothing asked for.

At the end, or at Ctrl-C, there is a page, also in --out with curves (SVG, JSON) and a list of the events. The exit code is 1
if there was a difference, or if memory, descriptors, threads, WALs or replicas grow: the median of the last quarter of a
life of lsfast, or of the soak, is compared with that of the second quarter.
"""
import argparse
import os
import pathlib
import random
import subprocess
import sys
import threading
import time

if sys.version_info < (3, 9):
    sys.exit("soak: Python 3.9 or newer is needed")

from bench import store
from bench.children import Failed, Workspace, wait_until
from bench.report import machine
from bench.store import ROOT

from . import page, sabotage
from .accidents import Accidents
from .checks import Checks
from .journal import Journal
from .world import World


def main():
    options = parse()
    shape, began = machine(), time.strftime("%Y-%m-%d %H:%M")
    out = pathlib.Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    print(f"soak: seed {options.seed}, {options.hours:g} hours, results in {out}", flush=True)
    found = False
    try:
        with Workspace(options.work) as workspace:
            server = store.start(options, workspace)
            prefix = store.scratch(server, workspace)
            journal = Journal(out)
            world = World(options, workspace, server, store.Directory(workspace.folder("replicas")), prefix, journal)
            print(f"soak: store {server.name}, everything is in {workspace.path}", flush=True)
            try:
                soak(options, world, journal)
            except Exception as error:
                journal.difference(f"the soak itself did not come to its end: {type(error).__name__}: {error}")
                raise
            finally:
                found = page.write(options, world, journal, began, shape)
    except Failed as error:
        sys.exit(f"soak: {error}")
    except KeyboardInterrupt:
        sys.exit("soak: interrupted; everything that was started is ended and removed")
    sys.exit(1 if found else 0)


def soak(options, world, journal):
    seconds = options.hours * 3600
    stop = threading.Event()
    world.write_config()
    world.start_apps()
    world.start_lsfast()
    checks = Checks(world, journal, stop)
    wait_until("the first sync", lambda: all(checks.sync(d, 60) for d in world.databases), 180, world.lsfast)
    world.start_standby()
    # Two rough times at least, and lives of lsfast that are as long as an hour between them.
    cycle = min(seconds / 2, 5400)
    accidents = Accidents(world, journal, stop, cycle, cycle / 4)
    sampler = page.Sampler(world, journal, stop)
    threads = accidents.threads()
    work = [(checks.restores, 0), (checks.restores, 1), (checks.verifies,), (checks.syncs,), (checks.standbys,), (sampler.run,)]
    threads += [threading.Thread(target=w[0], args=w[1:]) for w in work]
    over = threading.Event()
    ends = [guard(thread, journal, over) for thread in threads]
    interrupted = False
    try:
        watch(options, world, journal, time.monotonic() + seconds)
    except KeyboardInterrupt:
        interrupted = True
        print("soak: interrupted: ending", flush=True)
    finally:
        stop.set()
        if interrupted:
            checks.end()
        for end in ends:
            end.wait(600)
    try:
        finish(world, journal, Checks(world, journal, threading.Event()), checks.seen)
    finally:
        over.set()


def guard(thread, journal, over):
    """Starts a thread, and says when its work has ended. If that fails it is a difference: it checks nothing from then on.

    The kernel ends a child with the thread that has started it: the thread itself waits until all is over.
    """
    run, done = thread.run, threading.Event()

    def guarded():
        try:
            run()
        except Exception as error:
            journal.difference(f"the soak itself, {thread.name}: {type(error).__name__}: {error}")
        finally:
            done.set()
        over.wait()

    thread.run, thread.daemon = guarded, True
    thread.start()
    return done


def watch(options, world, journal, end):
    """Until the end: that lsfast, the standby and the applications are there, and that no lone writer finds its database busy."""
    busy, sabotaged = {}, options.sabotage is None
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 2))
        if not sabotaged and left < options.hours * 1800:
            sabotaged = True
            journal.note("sabotage: " + sabotage.do(options.sabotage, world))
        with world.lock:
            if (code := world.lsfast.popen.poll()) is not None:
                journal.difference(f"lsfast ended on its own with {code}:\n{world.lsfast.tail()}", world.lsfast.log)
                world.start_lsfast()
        for database in world.databases:
            figures = database.figures()
            bad = figures["errors"] + (figures["busy"] if database.load["alone"] else 0)
            if bad > busy.get(database.name, 0):
                journal.difference(f"a statement of {database.name} failed: {figures}", *(a.log for a in database.apps))
                busy[database.name] = bad


def finish(world, journal, checks, seen):
    """The end: everything is stored, and every replica is equal to its database, restored by both tools."""
    print("soak: the last restores", flush=True)
    world.gate.set("open")
    if world.lsfast.popen.poll() is not None:
        world.start_lsfast()
    for database in world.databases:
        for app in database.apps:
            app.stop()
    for database in world.databases:
        if not any(checks.sync(database, 60) for _ in range(5)):
            journal.difference(f"in the end, the last commits of {database.name} are not stored", world.lsfast.log)
    if world.follower.popen.poll() is None and world.standby.exists():
        checks.seen = seen
        database = next(d for d in world.databases if d.name == "steady")
        until = time.monotonic() + 90
        while (n := checks.look(database)) is not None and n < database.last():
            if time.monotonic() > until:
                journal.difference(f"in the end, the standby shows {n}, and not {database.last()}", world.follower.log)
                break
            time.sleep(0.5)
    if (code := world.end_lsfast(15)) != 0:
        journal.difference(f"in the end, lsfast ended with {code}", journal.out / "lsfast.log")
    for replica in world.replicas:
        last = replica.database.last()
        for tool in ("lsfast", "litestream"):
            out = world.workspace.path / "out" / f"end-{tool}.db"
            try:
                checks.newest(replica, tool, out)
                n = replica.database.ledger.check(out)
                if n < last:
                    raise ValueError(f"in the end, {tool} restored state {n} of {replica.name}, and not {last}")
            except Exception as error:
                checks.differ(str(error), replica, out)
            out.unlink(missing_ok=True)
        checks.verify(replica, "--db", replica.database.path)


def parse():
    parser = argparse.ArgumentParser(prog="scripts/soak.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hours", type=float, help="how long, fractions too")
    parser.add_argument("--seed", type=int, help="of loads and accidents [random]")
    parser.add_argument("--lsfast", default=str(ROOT / "target/release/lsfast"), metavar="PATH", help="[target/release/lsfast]")
    parser.add_argument("--litestream", metavar="PATH", help="Litestream 0.5 [LITESTREAM_BIN, target/peers/litestream]")
    parser.add_argument("--store", choices=["minio", "weed"], help="which of them to start [minio, else weed]")
    parser.add_argument("--endpoint", metavar="URL", help="a server that is there; keys from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY")
    parser.add_argument("--bucket", help="its bucket")
    parser.add_argument("--work", default=str(ROOT / "target"), metavar="PATH", help="where the databases are made [target]")
    parser.add_argument("--out", metavar="PATH", help="where the page, SVG and JSON go [target/soak/SEED]")
    parser.add_argument("--sabotage", choices=sabotage.KINDS, help="after half of the time break something, which must be noticed")
    options = parser.parse_args()
    if options.hours <= 0:
        sys.exit("soak: a soak takes more than 0 hours")
    options.dir = None
    options.seed = random.randrange(1 << 32) if options.seed is None else options.seed
    options.out = options.out or str(ROOT / "target/soak" / str(options.seed))
    options.litestream = options.litestream or os.environ.get("LITESTREAM_BIN") or str(ROOT / "target/peers/litestream")
    for program, how in ((options.lsfast, "cargo build --release"), (options.litestream, "scripts/fetch-peers.sh")):
        try:
            subprocess.run([program, "version"], stdout=subprocess.DEVNULL, check=True)
        except (OSError, subprocess.CalledProcessError):
            sys.exit(f"soak: {program} does not run: {how}")
    return options


if __name__ == "__main__":
    main()
