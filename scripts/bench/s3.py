"""The few S3 requests that the benchmarks need, signed (AWS Signature Version 4), over one connection that is kept."""
import datetime
import hashlib
import hmac
import http.client
import ssl
import urllib.parse
import xml.etree.ElementTree as ElementTree

SIGNED_BY_US = ("host", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token")


def sign(method, path, query, headers, payload_hash, keys):
    """Adds date, hash and signature to `headers`, which has `host`; `path` and `query` are as they go over the wire."""
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    headers["x-amz-date"] = now
    headers["x-amz-content-sha256"] = payload_hash
    if keys.get("token"):
        headers["x-amz-security-token"] = keys["token"]
    signed = sorted(n for n in headers if n in SIGNED_BY_US or n.startswith("x-amz-"))
    canonical = "\n".join(
        [method, path, _canonical_query(query)] + [f"{n}:{headers[n].strip()}" for n in signed] + ["", ";".join(signed), payload_hash]
    )
    scope = f"{now[:8]}/{keys['region']}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + keys["secret"]).encode()
    for part in (now[:8], keys["region"], "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.new(key, text.encode(), "sha256").hexdigest()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={keys['access']}/{scope}, SignedHeaders={';'.join(signed)}, Signature={signature}"
    )
    return headers


def _canonical_query(query):
    parts = [p.partition("=") for p in query.split("&") if p]
    return "&".join(sorted(f"{name}={value}" for name, _, value in parts))


class S3Error(Exception):
    """An answer that is no success."""

    def __init__(self, method, path, status, body):
        super().__init__(f"{method} {path}: {status} {body[:300].decode(errors='replace')}")
        self.status = status


class Client:
    """One connection to `endpoint`, path style. `ca` is a file of certificates to trust in place of the system's."""

    def __init__(self, endpoint, bucket, keys, ca=None):
        self.endpoint, self.bucket, self.keys = endpoint, bucket, keys
        url = urllib.parse.urlsplit(endpoint)
        self.host = url.netloc
        if url.scheme == "https":
            self.connection = http.client.HTTPSConnection(url.netloc, timeout=60, context=ssl.create_default_context(cafile=ca))
        else:
            self.connection = http.client.HTTPConnection(url.netloc, timeout=60)

    def request(self, method, key="", query="", body=b"", headers=None, into=None):
        """Status and body of an answer. With `into` (a bytearray) the body is read and thrown away, and its length returned."""
        path = "/" + self.bucket + ("/" + urllib.parse.quote(key, safe="/-_.~") if key else "")
        head = {"host": self.host, **(headers or {})}
        sign(method, path, query, head, hashlib.sha256(body).hexdigest(), self.keys)
        answer = self._answer(method, path + ("?" + query if query else ""), body, head)
        if into is not None and answer.status < 300:
            size = 0
            while count := answer.readinto(into):
                size += count
            return answer.status, size
        text = answer.read()
        if answer.status >= 300:
            raise S3Error(method, path, answer.status, text)
        return answer.status, text

    def _answer(self, *request):
        """The server may have closed the connection while nobody used it; all requests here may be made twice."""
        for last in (False, True):
            try:
                self.connection.request(*request)
                return self.connection.getresponse()
            except (http.client.RemoteDisconnected, ConnectionError):
                self.connection.close()
                if last:
                    raise

    def put(self, key, body):
        self.request("PUT", key, body=body)

    def get(self, key, first=None, last=None):
        headers = {} if first is None else {"range": f"bytes={first}-{last}"}
        return self.request("GET", key, headers=headers)[1]

    def delete(self, key):
        self.request("DELETE", key)

    def list(self, prefix):
        """Keys below `prefix` with their sizes."""
        found, token = {}, None
        while True:
            query = "list-type=2&max-keys=1000&prefix=" + urllib.parse.quote(prefix, safe="-_.~")
            if token:
                query = "continuation-token=" + urllib.parse.quote(token, safe="-_.~") + "&" + query
            root = ElementTree.fromstring(self.request("GET", query=query)[1])
            space = root.tag[: root.tag.index("}") + 1] if root.tag.startswith("{") else ""
            for entry in root.iter(space + "Contents"):
                found[entry.findtext(space + "Key")] = int(entry.findtext(space + "Size"))
            token = root.findtext(space + "NextContinuationToken")
            if not token:
                return found
