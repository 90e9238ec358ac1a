"""What happened: counts, differences, samples."""
import collections
import re
import shutil
import threading
import time

LEVEL = re.compile(r"level=(warn|error) msg=(\"(?:[^\"\\]|\\.)*\"|\S+)")

# What a SIGHUP in an outage makes lsfast say of the database whose settings have changed.
EXPECTED = ('"this database was to be stopped, and not everything of it is stored"',)


class Journal:
    def __init__(self, out):
        self.out, self.lock = out, threading.Lock()
        self.counts, self.said = collections.Counter(), collections.Counter()
        self.differences, self.begun, self.longest = [], time.monotonic(), {}
        self.samples, self.replicas, self.lives = [], [], []
        self.events = open(out / "events.txt", "w")

    def count(self, what, by=1):
        with self.lock:
            self.counts[what] += by

    def note(self, text):
        with self.lock:
            self.events.write(f"{time.strftime('%H:%M:%S')} {time.monotonic() - self.begun:8.1f} {text}\n")
            self.events.flush()

    def took(self, what, seconds):
        with self.lock:
            self.counts[what] += 1
            self.longest[what] = max(self.longest.get(what, 0), seconds)

    def difference(self, text, *files):
        """Something that must not be. Keeps the files, or folders, that show it."""
        self.note("DIFFERENCE " + text)
        with self.lock:
            number = len(self.differences) + 1
            kept = []
            # The first ones tell what there is to know; a disk filled by the rest helps no one.
            if number <= 5:
                folder = self.out / f"difference-{number}"
                for file in files:
                    folder.mkdir(parents=True, exist_ok=True)
                    try:
                        (shutil.copytree if file.is_dir() else shutil.copy2)(file, folder / file.name)
                        kept = [str(folder)]
                    except (OSError, shutil.Error):
                        pass
            self.differences.append(text + "".join(f" (kept: {k})" for k in kept))
        print(f"soak: difference {number}: {text[:600]}", flush=True)

    def read_log(self, path, excused=False):
        """Counts the warnings and errors that lsfast has logged, and removes the log.

        No accident of a soak is an error in lsfast's words, but for the end of one that could not store everything.
        """
        with open(path, errors="replace") as file:
            found = collections.Counter(m.groups() for m in map(LEVEL.search, file) if m)
        with self.lock:
            new = [text for level, text in found if level == "error" and text not in EXPECTED and (level, text) not in self.said]
            self.said += found
        if new and not excused:
            self.difference(f"lsfast has logged errors: {', '.join(new)}", path)
        shutil.copy2(path, self.out / "lsfast.log")
        path.unlink()
