"""Where replicas go: MinIO or SeaweedFS started for the run, a server that is there, or a directory."""
import json
import os
import pathlib
import shutil
import socket
import subprocess
import time

from . import s3
from .children import Child, Failed, wait_until

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUCKET = "bench"
# What would lead a tool elsewhere than it is told. (Litestream does not start with AWS_CA_BUNDLE.)
LEADING = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "LITESTREAM_CONFIG", "LSFAST_CONFIG", "LITESTREAM_S3_ENDPOINT")
LEADING += ("LITESTREAM_ACCESS_KEY_ID", "LITESTREAM_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
LOCAL_KEYS = {"access": "AKIDBENCH", "secret": "bench-secret-key", "region": "us-east-1"}


def free_ports(count):
    """Ports that were free a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Directory:
    """Replicas below a directory."""

    kind = "directory"
    endpoint = None
    authority = None

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.name = f"directory {self.path}"

    def env(self):
        return dict.fromkeys(LEADING)

    tool_env = env

    def list(self, prefix):
        """Files of the replica with their sizes, named as from the top."""
        top = self.path / prefix
        found = {}
        for folder, _, names in os.walk(top):
            for name in names:
                path = pathlib.Path(folder) / name
                try:
                    found[str(path.relative_to(self.path))] = path.stat().st_size
                except FileNotFoundError:
                    pass
        return found

    def get(self, key, first=None, last=None):
        with open(self.path / key, "rb") as file:
            file.seek(first or 0)
            return file.read() if last is None else file.read(last - (first or 0) + 1)

    def remove(self, prefix):
        shutil.rmtree(self.path / prefix, ignore_errors=True)


class Server:
    """Replicas in a bucket of an S3 server."""

    kind = "s3"
    # Set where the proxies speak TLS: whose certificate they show.
    authority = None

    def __init__(self, name, endpoint, bucket, keys, own):
        self.name, self.endpoint, self.bucket, self.keys, self.own = name, endpoint, bucket, keys, own
        self.client = s3.Client(endpoint, bucket, keys)

    def env(self):
        env = dict.fromkeys(LEADING) | {
            "AWS_ACCESS_KEY_ID": self.keys["access"],
            "AWS_SECRET_ACCESS_KEY": self.keys["secret"],
            "AWS_REGION": self.keys["region"],
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        if self.own:
            env["AWS_CA_BUNDLE"] = None
        if self.keys.get("token"):
            env["AWS_SESSION_TOKEN"] = self.keys["token"]
        return env

    def tool_env(self):
        """For what talks with a proxy: trusts the proxy's certificate, where it has one."""
        trust = {"SSL_CERT_FILE": str(self.authority.ca), "AWS_CA_BUNDLE": None} if self.authority else {}
        return self.env() | trust

    def new_client(self):
        """A connection of its own, straight to the store."""
        return s3.Client(self.endpoint, self.bucket, self.keys)

    def proxy_client(self, endpoint):
        """A connection of its own to a proxy."""
        return s3.Client(endpoint, self.bucket, self.keys, self.authority and self.authority.ca)

    def list(self, prefix):
        return self.client.list(prefix + "/")

    def get(self, key, first=None, last=None):
        return self.client.get(key, first, last)

    def remove(self, prefix):
        for key in self.list(prefix):
            self.client.delete(key)


def start(options, workspace):
    """The store that the options ask for."""
    if options.dir is not None:
        path = pathlib.Path(options.dir).resolve() if options.dir else workspace.folder("replicas")
        path.mkdir(parents=True, exist_ok=True)
        return Directory(path)
    if options.endpoint:
        return _given(options)
    minio = os.environ.get("MINIO_BIN") or shutil.which("minio")
    if minio and options.store != "weed":
        return _minio(minio, workspace)
    if options.store == "minio":
        raise Failed("there is no minio in PATH; set MINIO_BIN=FILE")
    return _weed(workspace)


def _given(options):
    keys = {
        "access": os.environ.get("AWS_ACCESS_KEY_ID"),
        "secret": os.environ.get("AWS_SECRET_ACCESS_KEY"),
        "token": os.environ.get("AWS_SESSION_TOKEN"),
        "region": os.environ.get("AWS_REGION") or "us-east-1",
    }
    if not keys["access"] or not keys["secret"]:
        raise Failed("--endpoint takes its keys from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; set them")
    if not options.bucket:
        raise Failed("--endpoint needs --bucket NAME, a bucket that is there; everything is below bench-*/ in it, and removed")
    server = Server(options.endpoint, options.endpoint.rstrip("/"), options.bucket, keys, own=False)
    try:
        server.list("bench-probe")
    except (s3.S3Error, OSError) as error:
        raise Failed(f"{options.endpoint} cannot be used: {error}") from None
    return server


def _ready(child, name, endpoint):
    """Waits until the bucket can be made and an object stored."""
    made = False

    def stored():
        nonlocal made
        try:
            server = Server(name, endpoint, BUCKET, LOCAL_KEYS, own=True)
            if not made:
                try:
                    server.client.request("PUT")
                except s3.S3Error as error:
                    if error.status != 409:
                        return None
                made = True
            server.client.put("ready", b"ready?")
            server.client.delete("ready")
            return server
        except (s3.S3Error, OSError):
            return None

    return wait_until(f"{name} to be ready", stored, 60, child, every=0.1)


def _minio(binary, workspace):
    (port,) = free_ports(1)
    env = {"MINIO_ROOT_USER": LOCAL_KEYS["access"], "MINIO_ROOT_PASSWORD": LOCAL_KEYS["secret"], "MINIO_BROWSER": "off"}
    command = [binary, "server", workspace.folder("minio"), "--address", f"127.0.0.1:{port}", "--quiet"]
    return _ready(Child(workspace, "minio", command, env), "minio", f"http://127.0.0.1:{port}")


def _weed(workspace):
    binary = os.environ.get("WEED_BIN") or ROOT / "target/peers/weed"
    if not pathlib.Path(binary).exists():
        print("bench: no minio in PATH and no target/peers/weed: running scripts/fetch-peers.sh", flush=True)
        if subprocess.run([ROOT / "scripts/fetch-peers.sh"]).returncode != 0 or not pathlib.Path(binary).exists():
            raise Failed("there is no store to measure with: put minio into PATH, or set MINIO_BIN or WEED_BIN, or use --dir")
    place = workspace.folder("weed")
    (place / "data").mkdir()
    identity = {
        "name": "bench",
        "credentials": [{"accessKey": LOCAL_KEYS["access"], "secretKey": LOCAL_KEYS["secret"]}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (place / "s3.json").write_text(json.dumps({"identities": [identity]}))
    ports = free_ports(8)
    command = [binary, "-logtostderr=true", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"]
    command += ["-master.electionTimeout=1s", "-volume.max=0", "-master.volumeSizeLimitMB=1024", "-filer", "-s3", "-s3.iam=false"]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0", f"-dir={place}/data", f"-s3.config={place}/s3.json"]
    command += [f"-filer.localSocket={place}/filer.sock"]
    names = [n for part in ("master", "volume", "filer", "s3") for n in (f"{part}.port", f"{part}.port.grpc")]
    command += [f"-{name}={port}" for name, port in zip(names, ports)]

    def sockets():
        # It makes these outside of its folder.
        for port in ports:
            for part in ("master-grpc", "volume-grpc", "filer-grpc", "s3-grpc", "s3"):
                pathlib.Path(f"/tmp/seaweedfs-{part}-{port}.sock").unlink(missing_ok=True)

    workspace.at_end.append(sockets)
    return _ready(Child(workspace, "weed", command), "weed", f"http://127.0.0.1:{ports[6]}")


def scratch(server, workspace):
    """A prefix for this run, removed at the end where the store outlives it."""
    prefix = f"bench-{os.getpid()}-{int(time.time())}"
    if not (isinstance(server, Server) and server.own):
        workspace.at_end.append(lambda: server.remove(prefix))
    return prefix
