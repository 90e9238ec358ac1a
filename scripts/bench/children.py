"""Processes that a benchmark starts, what /proc says of them, and their end, whatever happens."""
import ctypes
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class Failed(Exception):
    """A message for the user; no traceback."""


def die_with_parent():
    """Runs in a new process: it ends with this one, even if this one is killed."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def environment(changes):
    """This process's environment with changes; None takes a variable away."""
    env = {**os.environ, **(changes or {})}
    return {name: value for name, value in env.items() if value is not None}


class Child:
    """A process with its output in a file."""

    def __init__(self, workspace, name, command, env=None, stdin=None, stdout=None):
        self.name = name
        self.log = workspace.path / f"{name}-{len(workspace.children)}.log"
        with open(self.log, "wb") as log:
            self.popen = subprocess.Popen(
                [str(c) for c in command],
                env=environment(env),
                stdin=stdin or subprocess.DEVNULL,
                stdout=stdout or log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        self.pid = self.popen.pid
        workspace.children.append(self)

    def check(self):
        """Fails if the process ended on its own."""
        if self.popen.poll() is not None:
            raise Failed(f"{self.name} ended with status {self.popen.returncode}:\n{self.tail()}")

    def tail(self, lines=20):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def cpu(self):
        """Processor seconds used so far, of all its threads."""
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def status(self, name):
        """A field of /proc/PID/status in bytes: VmRSS now, VmHWM its largest."""
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
        return 0

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def stop(self, seconds=30):
        """Asks it to end, and makes it after a while."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe:
                pipe.close()

    def kill(self):
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()


class Workspace:
    """A directory and the processes in it. Leaving it ends them all and removes it."""

    def __init__(self, parent):
        self.parent = pathlib.Path(parent).resolve()
        self.children = []
        self.at_end = []

    def __enter__(self):
        self.parent.mkdir(parents=True, exist_ok=True)
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="bench-", dir=self.parent))
        signal.signal(signal.SIGTERM, _interrupt)
        signal.signal(signal.SIGHUP, _interrupt)
        return self

    def __exit__(self, *_):
        # A second Ctrl-C must not leave processes behind.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for child in reversed(self.children):
            child.kill()
        for action in self.at_end:
            try:
                action()
            except Exception as error:  # the rest is to be cleaned all the same
                print(f"bench: cleaning up: {error}")
        shutil.rmtree(self.path, ignore_errors=True)

    def folder(self, name):
        path = self.path / name
        path.mkdir(parents=True)
        return path


def _interrupt(*_):
    raise KeyboardInterrupt


def wait_until(what, condition, seconds, child=None, every=0.02):
    """The first true answer of `condition`; fails with `what` after a time, or when `child` ends."""
    begun = time.monotonic()
    while True:
        answer = condition()
        if answer:
            return answer
        if child:
            child.check()
        if time.monotonic() - begun > seconds:
            more = f"; the end of what {child.name} said:\n{child.tail()}" if child else ""
            raise Failed(f"waited {seconds} s for {what}{more}")
        time.sleep(every)
