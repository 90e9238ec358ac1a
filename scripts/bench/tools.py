"""The programs side by side: lsfast and every Litestream that is there, and how each is told what to do."""
import json
import os
import pathlib
import resource
import subprocess
import sys
import time

from .children import Child, Failed, die_with_parent, environment, wait_until
from .store import ROOT

PACKAGE_PARENT = str(pathlib.Path(__file__).resolve().parent.parent)


class Tool:
    """One program with one set of settings."""

    def __init__(self, name, kind, binary, fast=False):
        self.name, self.kind, self.binary, self.fast = name, kind, str(binary), fast

    def replicate(self, workspace, server, endpoint, pairs, intervals=None):
        """Starts it for pairs of database and prefix. `intervals` replaces how often it looks and uploads."""
        endpoint = endpoint or server.endpoint
        if self.kind == "lsfast" and self.fast:
            intervals = intervals or "0s"
        if self.kind == "lsfast" and len(pairs) == 1:
            (db, prefix), more = pairs[0], []
            if intervals:
                more = ["--sync-interval", intervals]
            command = [self.binary, "replicate", *more, db, lsfast_url(server, endpoint, prefix)]
        else:
            config = workspace.path / f"{self.name.replace(' ', '-')}-{len(workspace.children)}.yml"
            config.write_text(self._config(server, endpoint, pairs, intervals))
            command = [self.binary, "replicate", "-config", config]
            if self.kind == "lsfast":
                command[2] = "--config"
        return Child(workspace, self.name.replace(" ", "-"), command, server.tool_env())

    def _config(self, server, endpoint, pairs, intervals):
        interval = intervals or ("1ms" if self.fast else None)
        lines = ["dbs:"]
        for db, prefix in pairs:
            lines.append(f"  - path: {json.dumps(str(db))}")
            if interval and self.kind != "lsfast":
                lines.append(f"    monitor-interval: {interval}")
            fields = _replica(server, endpoint, prefix) + ([f"sync-interval: {interval}"] if interval else [])
            if self.kind == "litestream03":
                lines += ["    replicas:", "      - " + fields[0]] + ["        " + f for f in fields[1:]]
            else:
                lines += ["    replica:"] + ["      " + f for f in fields]
        return "\n".join(lines) + "\n"

    def restore(self, workspace, server, prefix, out, parallelism, more=()):
        """Restores to `out`; seconds, processor seconds and largest resident size. `more` are flags of lsfast."""
        if self.kind == "lsfast":
            command = [self.binary, "restore", "--parallelism", parallelism, *more, "-o", out, lsfast_url(server, server.endpoint, prefix)]
        else:
            config = workspace.path / f"restore-{self.kind}.yml"
            config.write_text(self._config(server, server.endpoint, [("/nonexistent/app.db", prefix)], None))
            command = [self.binary, "restore", "-config", config, "-parallelism", parallelism, "-o", out, "/nonexistent/app.db"]
        return timed(workspace, self.name, command, server.env())

    def follows_many(self):
        """Whether it can replicate the databases of a config file."""
        if self.kind != "lsfast":
            return True
        text = subprocess.run([self.binary, "replicate", "--help"], capture_output=True, text=True).stdout
        return "--config" in text


def timed(workspace, name, command, env):
    """Runs a command to its end, alone."""
    log = workspace.path / "timed.log"
    with open(log, "wb") as file:
        begun = time.monotonic()
        popen = subprocess.Popen(
            [str(c) for c in command], env=environment(env), stdin=subprocess.DEVNULL, stdout=file, stderr=file, preexec_fn=die_with_parent
        )
        try:
            _, status, usage = os.wait4(popen.pid, 0)
        except BaseException:
            popen.kill()
            popen.wait()
            raise
        seconds = time.monotonic() - begun
        popen.returncode = os.waitstatus_to_exitcode(status)
    if status:
        raise Failed(f"{name}: {' '.join(map(str, command))}\n{log.read_text(errors='replace')[-2000:]}")
    cpu = {"user": usage.ru_utime, "system": usage.ru_stime, "cpu": usage.ru_utime + usage.ru_stime}
    return {"seconds": seconds, **cpu, "rss": usage.ru_maxrss * 1024}


def lsfast_url(server, endpoint, prefix):
    if server.kind == "directory":
        return f"file://{server.path / prefix}"
    return f"s3://{server.bucket}/{prefix}?endpoint={endpoint}&region={server.keys['region']}&force-path-style=true"


def _replica(server, endpoint, prefix):
    if server.kind == "directory":
        return ["type: file", f"path: {json.dumps(str(server.path / prefix))}"]
    fields = ["type: s3", f"bucket: {server.bucket}", f"path: {prefix}", f"endpoint: {endpoint}"]
    return fields + [f"region: {server.keys['region']}", "force-path-style: true"]


def find(options):
    """The tools that the options ask for, those of Litestream as far as they are there."""
    lsfast = pathlib.Path(options.lsfast)
    if not lsfast.exists():
        raise Failed(f"{lsfast} is missing: cargo build --release, or say --lsfast PATH")
    peers = ROOT / "target/peers"
    v05 = pathlib.Path(os.environ.get("LITESTREAM_BIN") or peers / "litestream")
    v03 = pathlib.Path(os.environ.get("LITESTREAM_V03_BIN") or peers / "litestream-v03")
    tools = [Tool("lsfast", "lsfast", lsfast.resolve())]
    if options.tools and "lsfast-fast" in options.tools.split(","):
        tools.append(Tool("lsfast at 0 s", "lsfast", lsfast.resolve(), True))
    for path, made in ((v05, (("0.5", False), ("0.5-fast", True))), (v03, (("0.3", False),))):
        if not path.exists():
            print(f"bench: {path} is missing (scripts/fetch-peers.sh fetches it): measured without", flush=True)
            continue
        version = subprocess.run([path, "version"], capture_output=True, text=True).stdout.strip().lstrip("v")
        kind = "litestream03" if version.startswith("0.3") else "litestream05"
        tools += [Tool(f"litestream {version}" + (" at 1 ms" if fast else ""), kind, path.resolve(), fast) for _, fast in made]
    if options.tools:
        wanted = options.tools.split(",")
        tools = [t for t in tools if any(_is(t, w) for w in wanted)]
        if not tools:
            raise Failed(f"--tools {options.tools}: none of lsfast, lsfast-fast, 0.5, 0.5-fast, 0.3 that is here")
    return tools


def _is(tool, word):
    names = {"lsfast": "lsfast-fast" if tool.fast else "lsfast", "litestream05": "0.5-fast" if tool.fast else "0.5", "litestream03": "0.3"}
    return names[tool.kind] == word


class Spoken:
    """A child that is told by lines what to do, and answers by lines of JSON."""

    def __init__(self, workspace, name, module, job, env=None):
        command = [sys.executable, "-m", module, job]
        self.child = Child(workspace, name, command, {**(env or {}), "PYTHONPATH": PACKAGE_PARENT}, subprocess.PIPE, subprocess.PIPE)

    def read(self):
        line = self.child.popen.stdout.readline()
        if not line:
            self.child.popen.wait()
            raise Failed(f"{self.child.name} ended:\n{self.child.tail()}")
        return json.loads(line)

    def go(self):
        self.child.popen.stdin.write(b"go\n")
        self.child.popen.stdin.flush()

    def close(self):
        self.child.popen.stdin.close()
        self.child.popen.wait()
        self.child.popen.stdout.close()


class App(Spoken):
    """The application as a child; see app.py."""

    def __init__(self, workspace, **job):
        if len(job["dbs"]) > 1:
            listing = workspace.path / f"databases-{len(workspace.children)}.json"
            listing.write_text(json.dumps(job["dbs"]))
            job["dbs"] = str(listing)
        job = {"synchronous": "normal", "busy_timeout": 5, "seed": 1, **job}
        super().__init__(workspace, "app", "bench.app", json.dumps(job))
        self.positions = self.read()["positions"]

    def run(self):
        self.go()
        return self.read()

    def step(self, which=0):
        """One more commit in a database; its position."""
        self.child.popen.stdin.write(b"%d\n" % which)
        self.child.popen.stdin.flush()
        return self.read()


class Puts(Spoken):
    """Plain PUTs as a child; see puts.py."""

    def __init__(self, workspace, server, endpoint, prefix, puts):
        job = workspace.path / f"puts-{len(workspace.children)}.json"
        ca = str(server.authority.ca) if server.authority else None
        job.write_text(json.dumps({"endpoint": endpoint, "bucket": server.bucket, "ca": ca, "prefix": prefix, "puts": puts}))
        super().__init__(workspace, "puts", "bench.puts", str(job), server.tool_env())
        self.read()


def wait_for_image(events, prefixes, tool, child, seconds=120, quiet=1.5):
    """Until something is stored below each prefix, and then nothing more for a while."""
    def all_there():
        seen = {p for e in events.poll() if e["stored"] for p in _prefixes(e["path"])}
        return all(p in seen for p in prefixes)

    wait_until(f"the first image of {len(prefixes)} databases by {tool.name}", all_there, seconds, child)
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        child.check()
        stored = [e["t"] for e in events.poll() if e["stored"]]
        if time.monotonic() - stored[-1] > quiet:
            return
        time.sleep(0.05)


def _prefixes(path):
    """Each folder of a path, from the top: prefixes of replicas may have several parts."""
    parts = path.strip("/").split("/")
    for begin in (0, 1):
        for end in range(begin + 1, len(parts)):
            yield "/".join(parts[begin:end])


def descriptor_limit():
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most
