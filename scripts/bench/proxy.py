"""A reverse proxy between a tool and the store that notes when the store's answers to uploads arrived.

Runs as a process of its own (`python3 -m bench.proxy`), a thread for each connection, and writes a JSON line for each request:
time (CLOCK_MONOTONIC) just before the answer is handed to the tool, method, path, status, bytes of the body, and the first bytes of
what was stored: an LTX header says what part of the log is in the object. Bodies of multipart uploads count when their last part
is completed. `--rtt` holds back each request, each answer and twice that each new connection by half of it, so that a server nearby
looks like one far away; the stream of a body is not slowed down. With `--certificate` and `--key` it speaks TLS with the tool, and a new
connection waits for one more round trip; to the store it goes as the store's own URL says.

With `--quiet` it notes nothing but its port. A word on its input says how the store is from then on: `open`; `refuse` ends
each connection at once, `hang` answers nothing, `busy` answers 503, `deaf` hands requests on and drops the answers.

Signatures hold, because the Host header goes through as it is. For a store that insists on its own name requests are
signed again (`--resign`, keys from the environment).
"""
import argparse
import itertools
import json
import os
import select
import socket
import ssl
import sys
import threading
import time
import urllib.parse

from . import s3
from .children import Child, Failed, wait_until

CHUNK = 256 * 1024
HEAD_BYTES = 128


class Stream:
    """A socket with what was read of it too early."""

    def __init__(self, sock):
        self.sock, self.rest = sock, b""

    def until(self, mark):
        """What comes up to and with `mark`; empty if the other side has ended."""
        while (end := self.rest.find(mark)) < 0:
            more = self.sock.recv(65536)
            if not more:
                return b""
            self.rest += more
        text, self.rest = self.rest[: end + len(mark)], self.rest[end + len(mark) :]
        return text

    def some(self, most):
        if self.rest:
            text, self.rest = self.rest[:most], self.rest[most:]
            return text
        return self.sock.recv(min(most, CHUNK))


def parse(head):
    lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    return lines[0], headers


def relay(source, target, headers, until_close):
    """Hands on a body; returns its length and its first bytes."""
    size, first = 0, b""

    def part(count):
        nonlocal size, first
        while count > 0:
            text = source.some(count)
            if not text:
                raise ConnectionError("the body ends early")
            target.sendall(text)
            if len(first) < HEAD_BYTES * 2:
                first += text[: HEAD_BYTES * 2]
            size += len(text)
            count -= len(text)

    if headers.get("transfer-encoding", "").lower() == "chunked":
        while True:
            line = source.until(b"\r\n")
            target.sendall(line)
            length = int(line.split(b";")[0], 16)
            if length == 0:
                while (line := source.until(b"\r\n")) not in (b"\r\n", b""):
                    target.sendall(line)
                target.sendall(b"\r\n")
                break
            part(length)
            target.sendall(source.until(b"\r\n"))
    elif "content-length" in headers:
        part(int(headers["content-length"]))
    elif until_close:
        while text := source.some(CHUNK):
            target.sendall(text)
            size += len(text)
    return size, first


class Proxy:
    def __init__(self, options, log):
        self.upstream = urllib.parse.urlsplit(options.upstream)
        self.half = options.rtt / 2000
        self.keys = None
        if options.resign:
            names = {"access": "AWS_ACCESS_KEY_ID", "secret": "AWS_SECRET_ACCESS_KEY", "token": "AWS_SESSION_TOKEN", "region": "AWS_REGION"}
            self.keys = {field: os.environ.get(name) for field, name in names.items()}
        self.log, self.lock = log, threading.Lock()
        self.quiet, self.mode, self.changed = options.quiet, "open", threading.Condition()
        self.parts = {}  # first bytes of multipart uploads
        self.tls = ssl.create_default_context() if self.upstream.scheme == "https" else None
        self.front = None
        if options.certificate:
            self.front = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.front.load_cert_chain(options.certificate, options.key)

    def listen(self, words):
        """Takes the modes from a file, line by line."""
        for word in words:
            with self.changed:
                self.mode = word.strip()
                self.changed.notify_all()

    def pass_on(self):
        """Whether a request is handed to the store at all. A connection that hangs is broken when that ends."""
        with self.changed:
            hung = self.mode == "hang"
            self.changed.wait_for(lambda: self.mode != "hang")
        return not hung and self.mode != "refuse"

    def connect(self):
        port = self.upstream.port or (443 if self.tls else 80)
        sock = socket.create_connection((self.upstream.hostname, port), timeout=120)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.tls:
            sock = self.tls.wrap_socket(sock, server_hostname=self.upstream.hostname)
        return Stream(sock)

    def serve(self, sock):
        """One connection of the tool."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        store = None
        try:
            time.sleep(2 * self.half)
            if self.front:
                sock = self.front.wrap_socket(sock, server_side=True)
                time.sleep(2 * self.half)
            client = Stream(sock)
            while head := client.until(b"\r\n\r\n"):
                if not self.pass_on():
                    break
                if self.mode == "busy":
                    client.sock.sendall(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    break
                if store and select.select([store.sock], [], [], 0)[0]:
                    store.sock.close()  # the store has ended an idle connection
                    store = None
                store = store or self.connect()
                if not self.exchange(head, client, store):
                    break
        except (OSError, ValueError, ConnectionError):
            pass  # the tool sees a broken connection, as it would without a proxy
        finally:
            sock.close()
            if store:
                store.sock.close()

    def exchange(self, head, client, store):
        """One request and its answer; whether the connection goes on."""
        begun = time.monotonic()
        line, headers = parse(head)
        method, target, _ = line.split(" ", 2)
        if headers.pop("expect", None):
            client.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self.keys:
            headers = self.resign(method, target, headers)
        time.sleep(self.half)
        text = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in headers.items()) + "\r\n"
        store.sock.sendall(text.encode("latin-1"))
        size, first = relay(client, store.sock, headers, until_close=False)
        answer = store.until(b"\r\n\r\n")
        if not answer:
            raise ConnectionError("no answer")
        status_line, got = parse(answer)
        status = int(status_line.split(" ")[1])
        time.sleep(self.half)
        if self.mode == "deaf":
            return False
        self.note(begun, method, target, headers, status, size, first)
        client.sock.sendall(answer)
        if method != "HEAD" and status not in (204, 304):
            relay(store, client.sock, got, until_close=True)
        ends = {headers.get("connection", "").lower(), got.get("connection", "").lower()}
        has_end = "content-length" in got or "transfer-encoding" in got or method == "HEAD" or status in (204, 304)
        return "close" not in ends and has_end

    def resign(self, method, target, headers):
        payload = headers.get("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
        if payload.startswith("STREAMING-AWS4"):
            raise ValueError("a body signed in parts cannot be signed again")
        headers = {n: v for n, v in headers.items() if n not in ("authorization", "x-amz-date", "host")}
        headers["host"] = self.upstream.netloc
        path, _, query = target.partition("?")
        return s3.sign(method, path, query, headers, payload, self.keys)

    def note(self, begun, method, target, headers, status, size, first):
        if self.quiet:
            return
        path, _, query = target.partition("?")
        if headers.get("x-amz-content-sha256", "").startswith("STREAMING"):
            first = first.partition(b"\r\n")[2]
        first = first[:HEAD_BYTES]
        stored = method == "PUT" and status < 300
        if "uploadId=" in query:
            if stored and "partNumber=1&" in query + "&":
                self.parts[path] = first
            stored = method == "POST" and status < 300
            first = self.parts.pop(path, b"") if stored else b""
        event = {"t": time.monotonic(), "begun": begun, "method": method, "path": urllib.parse.unquote(path)}
        event |= {"query": query, "status": status, "bytes": size if method in ("PUT", "POST") else 0, "stored": stored}
        if stored:
            event["head"] = first.hex()
        with self.lock:
            self.log.write(json.dumps(event) + "\n")
            self.log.flush()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--rtt", type=float, default=0)
    parser.add_argument("--resign", action="store_true")
    parser.add_argument("--events", required=True)
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    options = parser.parse_args()
    sys.setswitchinterval(0.0005)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    with open(options.events, "w") as log:
        log.write(json.dumps({"port": listener.getsockname()[1]}) + "\n")
        log.flush()
        proxy = Proxy(options, log)
        threading.Thread(target=proxy.listen, args=(sys.stdin,), daemon=True).start()
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=proxy.serve, args=(sock,), daemon=True).start()


class Events:
    """What a proxy wrote, as it comes."""

    _names = itertools.count()

    def __init__(self, workspace, server, options):
        self.file = workspace.path / f"events-{next(self._names)}.jsonl"
        command = [sys.executable, "-m", "bench.proxy", "--upstream", server.endpoint, "--rtt", options.rtt, "--events", self.file]
        env = {"PYTHONPATH": os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}
        if server.authority:
            command += ["--certificate", server.authority.certificate, "--key", server.authority.key]
        if not server.own:
            command.append("--resign")
            env |= server.env()
        self.child = Child(workspace, "proxy", command, env)
        self.at, self.list = 0, []
        wait_until("the proxy to listen", self.file.exists, 10, self.child)
        head = wait_until("the proxy to listen", self._lines, 10, self.child)
        self.endpoint = f"{'https' if server.authority else 'http'}://127.0.0.1:{head[0]['port']}"

    def _lines(self):
        with open(self.file, "rb") as file:
            file.seek(self.at)
            text = file.read()
        end = text.rfind(b"\n") + 1
        self.at += end
        return [json.loads(line) for line in text[:end].splitlines()]

    def poll(self):
        """All events so far."""
        if self.child.popen.poll() is not None:
            raise Failed("the proxy ended:\n" + self.child.tail())
        self.list += self._lines()
        return self.list

    def stop(self):
        self.child.stop()
        self.list += self._lines()
        return self.list


if __name__ == "__main__":
    main()
