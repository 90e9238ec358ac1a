"""The same events as of the proxy, for replicas in a directory: inotify says when a file got its final name.

Whether the tool flushed the file before, or its directory afterwards, is not seen from here."""
import ctypes
import os
import pathlib
import select
import struct
import threading
import time

from .children import Failed
from .proxy import HEAD_BYTES

IN_CLOSE_WRITE, IN_MOVED_TO, IN_CREATE, IN_ISDIR = 0x8, 0x80, 0x100, 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Events:
    """Files that appear below a directory, while this runs."""

    endpoint = None

    def __init__(self, base, prefix):
        self.list, self.names, self.folders, self.ended = [], set(), {}, False
        self.fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise Failed("inotify: " + os.strerror(ctypes.get_errno()))
        self.top = pathlib.Path(base)
        (self.top / prefix).mkdir(parents=True, exist_ok=True)
        self._add(self.top / prefix)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _add(self, folder):
        """Watches a folder and all in it, and notes the files that were there before the watch."""
        number = _libc.inotify_add_watch(self.fd, os.fsencode(folder), IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE)
        if number < 0:
            return
        self.folders[number] = folder
        try:
            for entry in os.scandir(folder):
                if entry.is_dir():
                    self._add(pathlib.Path(entry.path))
                else:
                    self._note(pathlib.Path(entry.path), time.monotonic())
        except FileNotFoundError:
            pass

    def _note(self, path, now):
        if path.suffix not in (".ltx", ".lz4"):
            return
        try:
            with open(path, "rb") as file:
                head = file.read(HEAD_BYTES)
                size = os.fstat(file.fileno()).st_size
        except FileNotFoundError:
            return
        name = "/" + str(path.relative_to(self.top))
        if name in self.names:
            return  # links, renames and closes all say so
        self.names.add(name)
        event = {"t": now, "begun": now, "method": "PUT", "path": name, "query": "", "status": 200}
        self.list.append(event | {"bytes": size, "stored": True, "head": head.hex()})

    def _run(self):
        while not self.ended:
            if not select.select([self.fd], [], [], 0.2)[0]:
                continue
            text = os.read(self.fd, 65536)
            now, at = time.monotonic(), 0
            while at < len(text):
                number, mask, _, length = struct.unpack_from("iIII", text, at)
                name = text[at + 16 : at + 16 + length].rstrip(b"\0").decode()
                at += 16 + length
                if number not in self.folders:
                    continue
                path = self.folders[number] / name
                if mask & IN_ISDIR:
                    self._add(path)
                elif mask & (IN_MOVED_TO | IN_CLOSE_WRITE) or _linked(path):
                    self._note(path, now)

    def poll(self):
        return self.list

    def stop(self):
        self.ended = True
        self.thread.join()
        os.close(self.fd)
        return self.list


def _linked(path):
    """Whether a new name is a second one: of a file that was whole before."""
    try:
        return os.stat(path).st_nlink > 1
    except FileNotFoundError:
        return False
