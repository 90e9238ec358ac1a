"""Restores, verifications, waits and looks at the standby, each in a thread of its own, to the end of the soak."""
import json
import pathlib
import random
import sqlite3
import subprocess
import threading
import time

from bench.children import die_with_parent, environment

from .world import STANDBY_OF

PATIENCE = 300
# Without an outage for so long, a standby is not further behind than this.
BEHIND = 90


class Checks:
    def __init__(self, world, journal, stop):
        self.world, self.journal, self.stop = world, journal, stop
        self.litestream = world.options.litestream
        self.running, self.lock = set(), threading.Lock()
        self.seen = 0
        self.history, self.txids = [], {}

    def run(self, *command):
        """A command to its end: exit code, what it printed, its errors."""
        popen = subprocess.Popen(
            [str(c) for c in command], env=environment(self.world.env()), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True, preexec_fn=die_with_parent,
        )
        with self.lock:
            self.running.add(popen)
        try:
            out, said = popen.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            popen.kill()
            out, said = popen.communicate()
            said += f"\nnot done after {PATIENCE} s"
        finally:
            with self.lock:
                self.running.discard(popen)
        return popen.returncode, out, said

    def end(self):
        """Ends the commands that still run."""
        with self.lock:
            for popen in self.running:
                popen.kill()

    def points(self, replica):
        # A file that is merged while it is read asks for another attempt.
        for _ in range(3):
            code, out, said = self.run(self.world.options.lsfast, "points", "--json", "--limit", 300, replica.url)
            if code == 0 or "was removed while" not in said:
                break
        if code:
            raise ValueError(f"points of {replica.name} ends with {code}: {said[-1500:]}")
        return json.loads(out)["points"]

    def restore(self, replica, tool, how, out):
        flags = ["-o", out, *how]
        if tool == "lsfast":
            return self.run(self.world.options.lsfast, "restore", *flags, replica.url)
        config = out.with_suffix(".yml")
        config.write_text(self.litestream_config(replica))
        return self.run(self.litestream, "restore", "-config", config, *flags, replica.database.path)

    def litestream_config(self, replica):
        lines = ["dbs:", f"  - path: {json.dumps(str(replica.database.path))}", "    replica:"]
        if replica.kind == "dir":
            lines += ["      type: file", f"      path: {json.dumps(str(replica.server.path / replica.prefix))}"]
        else:
            lines += ["      type: s3", f"      bucket: {replica.server.bucket}", f"      path: {replica.prefix}"]
            lines += [f"      endpoint: {replica.server.endpoint}", f"      region: {replica.server.keys['region']}", "      force-path-style: true"]
        return "\n".join(lines) + "\n"

    def newest(self, replica, tool, out):
        """Restores the newest state, which must have all that was stored when this began."""
        with replica.lock:
            floor = replica.floor
        begun = time.monotonic()
        code, _, said = self.restore(replica, tool, [], out)
        if code:
            # Files may come and go under a reader that has made its plan. Once more, then it counts.
            self.journal.count(f"newest state restored by {tool} at the second attempt")
            remove(out)
            code, _, said = self.restore(replica, tool, [], out)
        if code:
            raise ValueError(f"{tool} cannot restore the newest state of {replica.name}, exit code {code}: {said[-1500:]}")
        n = replica.database.ledger.check(out)
        if n < floor:
            raise ValueError(f"{tool} restored state {n} of {replica.name}, but {floor} was stored before")
        most = replica.database.last() + len(replica.database.apps)
        if n > most:
            raise ValueError(f"{tool} restored state {n} of {replica.name}, and only {most} can have been committed")
        replica.stored(n)
        self.journal.took(f"newest state restored by {tool}", time.monotonic() - begun)

    def past(self, replica, tool, by_time, chance, out):
        """Restores a state that is offered, by its TXID or a time."""
        points = self.points(replica)
        if by_time:
            # A time means what was stored before it, and before the oldest there is nothing.
            points = points[1:]
        if not points:
            return
        point = chance.choice(points)
        how = ["-timestamp", point["time"]] if by_time else ["-txid", point["txid"]]
        what = f"{tool}, {' '.join(how)} of {replica.name}"
        begun = time.monotonic()
        for _ in range(2):
            code, _, said = self.restore(replica, tool, how, out)
            if code == 0:
                break
            remove(out)
            if point["txid"] not in [p["txid"] for p in self.points(replica)]:
                self.journal.count("past state not offered any more when it was restored")
                return
        if code:
            raise ValueError(f"{what}: exit code {code}: {said[-1500:]}")
        n = replica.database.ledger.check(out)
        with self.lock:
            known = self.txids.setdefault((replica.database.name, point["txid"]), n) if not by_time else n
        if known != n:
            raise ValueError(f"{what} is state {n}, and was {known} before")
        self.journal.took(f"past state restored by {tool}, by {'time' if by_time else 'TXID'}", time.monotonic() - begun)

    def restores(self, worker):
        chance = random.Random(f"{self.world.seed}/restores/{worker}")
        turn = worker
        while not self.stop.wait(chance.uniform(0.2, 1.5)):
            turn += 1
            tool = ("lsfast", "litestream")[turn % 2]
            replica = chance.choice(self.world.replicas)
            out = self.world.workspace.path / "out" / f"{worker}.db"
            try:
                if chance.random() < 0.5:
                    self.newest(replica, tool, out)
                else:
                    self.past(replica, tool, chance.random() < 0.5, chance, out)
            except (ValueError, TypeError, sqlite3.Error) as error:
                if not self.stop.is_set():
                    self.differ(f"{error}", replica, out)
            remove(out)
            if len(self.txids) > 200000:
                self.txids.clear()

    def differ(self, text, replica, *files):
        """Notes a difference, and keeps the whole replica as it is now."""
        folder = self.world.workspace.path / "out" / f"replica-{threading.get_ident()}"
        try:
            for key in self.listing(replica):
                level, name = pathlib.Path(key).parts[-2:]
                # As in a directory, whose levels have other names than in a bucket.
                target = folder / "ltx" / str(int(level)) / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(self.body(replica, key))
        except Exception as error:
            self.journal.note(f"the replica could not be kept whole: {error}")
        self.journal.difference(text, *(f for f in (*files, folder, self.world.lsfast.log) if f.exists()))
        subprocess.run(["rm", "-rf", str(folder)], check=False)

    def listing(self, replica):
        return replica.server.list(replica.prefix) if replica.kind == "dir" else replica.server.new_client().list(replica.prefix + "/")

    def body(self, replica, key):
        return (replica.server if replica.kind == "dir" else replica.server.new_client()).get(key)

    def verifies(self):
        chance = random.Random(f"{self.world.seed}/verify")
        while not self.stop.wait(chance.uniform(5, 25)):
            self.verify(chance.choice(self.world.replicas), "--no-db")

    def verify(self, replica, *flags):
        begun = time.monotonic()
        code, out, said = self.run(self.world.options.lsfast, "verify", *flags, replica.url)
        if code and not self.stop.is_set():
            self.differ(f"verify of {replica.name} ends with {code}: {(out + said)[-1500:]}", replica)
        self.journal.took("verified", time.monotonic() - begun)

    def syncs(self):
        chance = random.Random(f"{self.world.seed}/sync")
        while not self.stop.wait(chance.uniform(0.5, 4)):
            self.sync(chance.choice(self.world.databases), 30)

    def sync(self, database, seconds):
        """Whether lsfast has said that what was committed before is stored; it is held to that from then on."""
        committed, begun = database.last(), time.monotonic()
        flags = ["--config", self.world.config, "--wait", "--timeout", seconds]
        code, _, said = self.run(self.world.options.lsfast, "sync", *flags, database.path)
        if code == 0:
            for replica in database.replicas:
                replica.stored(committed)
            self.journal.took("sync --wait answered", time.monotonic() - begun)
        elif not self.stop.is_set():
            self.journal.count("sync --wait without success (outage, or lsfast did not run)")
            self.journal.note(f"sync of {database.name}: {code}: {said.strip()[-300:]}")
        return code == 0

    def standbys(self):
        """Reads the standby over and over: each state must be one that was, and no older than the one before."""
        database = next(d for d in self.world.databases if d.name == STANDBY_OF)
        while not self.stop.wait(1):
            if self.world.follower.popen.poll() is None and self.world.standby.exists():
                self.look(database)

    def look(self, database):
        path = self.world.standby
        try:
            app = sqlite3.connect(f"file:{path}?mode=rw", uri=True, isolation_level=None, timeout=30)
            try:
                n = database.ledger.read(app)
            finally:
                app.close()
        except (ValueError, TypeError, sqlite3.Error) as error:
            self.journal.difference(f"the standby: {type(error).__name__}: {error}", path.parent, self.world.follower.log)
            return None
        now = time.monotonic()
        if n < self.seen:
            self.journal.difference(f"the standby went back from state {self.seen} to {n}", path.parent, self.world.follower.log)
        self.seen = max(n, self.seen)
        self.history = [(t, f) for t, f in self.history if t > now - BEHIND - 30] + [(now, database.replicas[0].floor)]
        calm = min(now - self.world.standby_since, now - self.world.gate.opened if self.world.gate.mode == "open" else 0)
        due = max((f for t, f in self.history if t < now - BEHIND), default=0)
        if calm > BEHIND and n < due:
            self.journal.difference(f"the standby shows {n}, and {due} was stored {BEHIND} s ago", path.parent, self.world.follower.log)
        self.journal.count("looks at the standby")
        return n


def remove(out):
    for end in ("", "-wal", "-shm", "-journal", "-txid"):
        pathlib.Path(f"{out}{end}").unlink(missing_ok=True)
    for path in out.parent.glob(out.name + ".tmp*"):
        path.unlink(missing_ok=True)
