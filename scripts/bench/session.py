"""What every benchmark needs: the store, the tools, a place for this run, and when what was stored."""
import itertools
import time

from . import position, proxy, store, tls, tools, watch
from .children import Failed, Workspace
from .report import machine, save


class Session:
    """Everything that one run has started. Leaving it ends and removes all of it; if by an error, results so far are written."""

    def __init__(self, options, results):
        self.options, self.results = options, results
        self.workspace = Workspace(options.work)
        self._names = itertools.count()

    def __enter__(self):
        self.machine = machine()
        self.tools = tools.find(self.options)
        self.workspace.__enter__()
        try:
            self.server = store.start(self.options, self.workspace)
            if self.options.tls:
                if self.server.kind == "directory":
                    raise Failed("--tls is between a tool and a server; leave out --dir")
                self.server.authority = tls.Authority(self.workspace.folder("tls"))
            self.prefix = store.scratch(self.server, self.workspace)
        except BaseException:
            self.workspace.__exit__()
            raise
        shape = self.machine
        way = "".join([", over TLS" if self.options.tls else "", f", {self.options.rtt:g} ms of round trip added" if self.options.rtt else ""])
        print(f"store: {self.server.name}{way}; {shape['cores']} x {shape['cpu']}, Linux {shape['kernel']}, load {shape['load_before']:.1f}")
        if shape["load_before"] > shape["cores"] / 4:
            print("bench: this machine has other work to do; the numbers will show it")
        print(flush=True)
        return self

    def __exit__(self, error, *_):
        self.workspace.__exit__()
        if error and self.results:
            save(self.options, self.options.command + "-partial", {**self.facts(), "results": self.results})

    def events(self):
        """What gets stored from now on."""
        if self.server.kind == "directory":
            return watch.Events(self.server.path, self.prefix)
        return proxy.Events(self.workspace, self.server, self.options)

    def place(self, name):
        """A new folder for databases and a new prefix for replicas."""
        name = f"{name}-{next(self._names)}".replace(" ", "-")
        return self.workspace.folder(name), f"{self.prefix}/{name}"

    def turns(self, round_number, what):
        """The order of this round: each begins once."""
        at = round_number % len(what)
        return what[at:] + what[:at]

    def facts(self):
        options = {k: v for k, v in vars(self.options).items() if isinstance(v, (str, int, float, bool, list, type(None)))}
        return {"machine": self.machine, "store": self.server.name, "options": options, "tools": [t.name for t in self.tools]}


class Tracker:
    """Follows how far one database is stored."""

    def __init__(self, session, events, prefix, base, tool):
        self.server, self.events, self.prefix, self.base, self.tool = session.server, events, prefix, base, tool
        self._bodies, self._count, self._found = {}, -1, []

    def _fetch(self, key):
        if key not in self._bodies:
            self._bodies[key] = self.server.get(key)
        return self._bodies[key]

    def found(self):
        events = self.events.poll()
        if len(events) != self._count:
            self._count = len(events)
            self._found = position.stored(list(events), self.prefix, self.base, self._fetch)
        return self._found

    def place(self, salt, end):
        return position.after(salt, self.base), end

    def wait(self, salt, end, seconds, child):
        """Waits until a position is stored, and Litestream 0.3 quiet (see position.UNPACKED_MOST); whether it came to that."""
        target, quiet = self.place(salt, end), 2.5 if self.tool.kind == "litestream03" else 0
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            child.check()
            found = self.found()
            if any(p >= target for _, p in found) and time.monotonic() - found[-1][0] >= quiet:
                return True
            time.sleep(0.02 if quiet == 0 else 0.2)
        return False

    def lags(self, commits):
        """Seconds to the store for commits (time, salt, end); nothing for one that was not seen there."""
        return position.lags([(when, self.place(salt, end)) for when, salt, end in commits], self.found())


def check_all_stored(stored, total, tool):
    if stored < total:
        print(f"bench: {tool.name}: {total - stored} of {total} commits were not seen in the store", flush=True)
    if not stored:
        raise Failed(f"{tool.name}: no commit was seen in the store")
