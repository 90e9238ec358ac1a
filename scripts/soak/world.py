"""The processes of a soak: the applications, lsfast, the way to the store, the standby."""
import json
import random
import shutil
import signal
import sys
import threading
import time

from bench.children import Child, Failed, wait_until
from bench.tools import PACKAGE_PARENT, lsfast_url

from .ledger import SCHEMA, Ledger
from .load import Slot

# What each database is for. `replicas`: s3 by way of the proxy, dir a directory.
LOADS = [
    {"name": "steady", "gap": 0.12, "rows": (1, 4), "sizes": (50, 800), "keep": 4000, "busy_timeout": 0, "replicas": ["s3"]},
    {"name": "bursty", "gap": 0.002, "burst": (150, 9), "rows": (1, 3), "sizes": (20, 300), "keep": 3000, "replicas": ["s3"]},
    {"name": "shared", "gap": 0.4, "rows": (1, 6), "sizes": (100, 1500), "keep": 2000, "writers": 3, "killed": True, "replicas": ["s3"]},
    {"name": "large", "gap": 1.5, "rows": (1, 3), "sizes": (500, 4000), "keep": 5000, "big": (25, 3000), "replicas": ["s3"]},
    {"name": "vacuumed", "gap": 0.5, "rows": (1, 20), "sizes": (50, 500), "keep": 3000, "vacuum": 60, "page_size": 1024, "replicas": ["dir"]},
    {"name": "checkpointed", "gap": 0.3, "rows": (1, 8), "sizes": (50, 2000), "keep": 1500, "checkpoints": 12, "replicas": ["s3"]},
    {"name": "idle", "gap": 45, "rows": (1, 2), "sizes": (50, 500), "keep": 300, "replicas": ["s3"]},
    {"name": "reopened", "gap": 0.2, "rows": (1, 5), "sizes": (50, 900), "keep": 1500, "reopen": 10, "replicas": ["s3"]},
    {"name": "killed", "gap": 0.2, "rows": (1, 40), "sizes": (100, 3000), "keep": 1500, "page_size": 8192, "killed": True, "replicas": ["s3", "dir"]},
]
STANDBY_OF = "steady"
# Times from the config file, in seconds.
IMAGES, RETENTION, RAW = 120, 600, 150


class Database:
    def __init__(self, world, load):
        load = {"busy_timeout": 5, "writers": 1, **load}
        load["alone"] = load["writers"] == 1
        self.load, self.name = load, load["name"]
        self.path = world.workspace.path / "apps" / f"{self.name}.db"
        self.ledger = Ledger(world.seed, load)
        self.slots = [world.workspace.path / "slots" / f"{self.name}-{i}" for i in range(load["writers"])]
        self.replicas = [Replica(world, self, kind) for kind in load["replicas"]]
        self.apps = [None] * load["writers"]

    def figures(self):
        found = [Slot(slot).get() for slot in self.slots]
        return {f: (max if f in ("last", "longest") else sum)(one[f] for one in found) for f in found[0]}

    def last(self):
        """A transaction that is committed."""
        return self.figures()["last"]

    def wal_bytes(self):
        try:
            return self.path.with_name(self.path.name + "-wal").stat().st_size
        except OSError:
            return 0


class Replica:
    """Where one database goes, and the state that was seen to be stored there."""

    def __init__(self, world, database, kind):
        self.database, self.kind, self.name = database, kind, f"{database.name} ({kind})"
        self.prefix = f"{world.prefix}/{database.name}"
        self.server = world.server if kind == "s3" else world.directory
        self.url = lsfast_url(self.server, self.server.endpoint, self.prefix)
        self.through = lsfast_url(self.server, world.gate.endpoint, self.prefix) if kind == "s3" else self.url
        self.lock, self.floor = threading.Lock(), 0

    def stored(self, n):
        with self.lock:
            self.floor = max(self.floor, n)


class Gate:
    """The proxy between lsfast and the store, which makes the outages."""

    def __init__(self, workspace, server):
        command = [sys.executable, "-m", "bench.proxy", "--quiet", "--events", "/dev/stdout", "--upstream", server.endpoint]
        env = {"PYTHONPATH": PACKAGE_PARENT}
        if not server.own:
            command.append("--resign")
            env |= server.env()
        pipe = -1  # subprocess.PIPE
        self.child = Child(workspace, "gate", command, env, pipe, pipe)
        line = self.child.popen.stdout.readline()
        if not line:
            raise Failed("the proxy ended:\n" + self.child.tail())
        self.endpoint = f"http://127.0.0.1:{json.loads(line)['port']}"
        self.mode, self.opened = "open", time.monotonic()

    def set(self, mode):
        self.child.popen.stdin.write(mode.encode() + b"\n")
        self.child.popen.stdin.flush()
        self.mode, self.opened = mode, time.monotonic()


class World:
    def __init__(self, options, workspace, server, directory, prefix, journal):
        self.options, self.workspace, self.seed, self.journal = options, workspace, options.seed, journal
        self.server, self.directory, self.prefix = server, directory, prefix
        for name in ("apps", "slots", "out", "standby"):
            workspace.folder(name)
        self.gate = Gate(workspace, server)
        self.databases = [Database(self, load) for load in LOADS]
        self.replicas = [r for d in self.databases for r in d.replicas]
        self.config = workspace.path / "lsfast.yml"
        self.chance = random.Random(f"{self.seed}/world")
        self.lsfast, self.follower, self.lives, self.begun = None, None, 0, 0
        # Held by whatever ends lsfast or asks it something that must be answered.
        self.lock = threading.RLock()
        self.standby = workspace.path / "standby" / "standby.db"
        self.standby_since = 0

    def write_config(self):
        """A file like the one before, but for the settings of one database."""
        changed = self.chance.randrange(len(self.databases))
        lines = ["socket:", "  enabled: true", f"  path: {self.workspace.path / 'socket'}", "levels:"]
        lines += [f"  - interval: {i}" for i in ("10s", "60s", "5m")]
        lines += ["snapshot:", f"  interval: {IMAGES}s", f"  retention: {RETENTION}s"]
        lines += [f"l0-retention: {RAW}s", "l0-retention-check-interval: 15s", "verify-interval: 90s", "dbs:"]
        for at, database in enumerate(self.databases):
            lines += [f"  - path: {json.dumps(str(database.path))}", "    replicas:"]
            for replica in database.replicas:
                lines.append(f"      - url: {json.dumps(replica.through)}")
                lines.append(f"        sync-interval: {250 if at == changed else 500}ms")
        self.config.write_text("\n".join(lines) + "\n")

    def start_apps(self):
        for database in self.databases:
            for worker in range(len(database.apps)):
                Slot(database.slots[worker])
                self.start_app(database, worker)
            # The others wait for its tables.
            wait_until(f"a commit in {database.name}", database.last, 60, database.apps[0])

    def start_app(self, database, worker):
        job = {"seed": self.seed, "load": database.load, "db": str(database.path), "slot": str(database.slots[worker]), "worker": worker}
        env = {"PYTHONPATH": PACKAGE_PARENT}
        database.apps[worker] = self.child(f"app-{database.name}", [sys.executable, "-m", "soak.load", json.dumps(job)], env)

    def child(self, name, command, env):
        """Like Child, but its list does not grow for days."""
        self.workspace.children[:] = [c for c in self.workspace.children if c.popen.poll() is None]
        at = self.numbers = getattr(self, "numbers", 0) + 1
        return Child(self.workspace, f"{name}-{at}", command, env)

    def env(self):
        return self.server.env() | {"LSFAST_CONFIG": None}

    def start_lsfast(self):
        command = [self.options.lsfast, "replicate", "--config", self.config]
        self.lsfast = self.child("lsfast", command, self.env())
        self.lives += 1
        self.begun = time.monotonic()

    def start_standby(self):
        url = next(r for d in self.databases if d.name == STANDBY_OF for r in d.replicas).through
        command = [self.options.lsfast, "restore", "-f", "-o", self.standby, url]
        self.follower = self.child("standby", command, self.env())
        self.standby_since = time.monotonic()

    def forget(self):
        """Takes away what lsfast has noted about one database, while it does not run."""
        database = self.chance.choice(self.databases)
        shutil.rmtree(database.path.parent / f".{database.path.name}-lsfast", ignore_errors=True)
        return database.name

    def end_lsfast(self, number):
        """Ends it by a signal; what it said at the end goes to the journal. Returns the exit code."""
        with self.lock:
            child = self.lsfast
            child.popen.send_signal(signal.SIGCONT)
            child.popen.send_signal(number)
            code = child.popen.wait(150)
            self.journal.read_log(child.log, excused=number == signal.SIGTERM and code == 1)
            return code
