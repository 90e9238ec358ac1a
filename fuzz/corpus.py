#!/usr/bin/env python3
"""Puts the first inputs of each fuzz target into fuzz/corpus/TARGET, made from tests/vectors, tests/config and
databases of its own.

Inputs that fuzzing has added are left alone. No argument. Python 3 and nothing else.
"""
import hashlib
import pathlib
import sqlite3
import tempfile

here = pathlib.Path(__file__).resolve().parent
tests = here.parent / "tests"
INPUT_BYTES_MAX = 64 << 10


def add(target, data):
    if isinstance(data, str):
        data = data.encode()
    if len(data) > INPUT_BYTES_MAX:
        return
    folder = here / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)


def files(folder, pattern):
    return sorted(p for p in (tests / folder).rglob(pattern) if p.is_file())


for path in files("vectors", "*.ltx"):
    for lead in (b"\0\x40", b"\1\7"):
        add("ltx_decode", lead + path.read_bytes())

for path in files("vectors/wal", "db-wal"):
    wal, shm = path.read_bytes(), path.with_name("db-shm")
    shm = shm.read_bytes() if shm.exists() else bytes(136)
    for lead in (b"\0\xff\1", b"\1\x10\2"):
        add("wal_scan", lead + wal)
        add("wal_tail", lead + shm[:136] + wal)
    add("legacy", wal)

for path in files("vectors/v03", "*.lz4"):
    add("legacy", path.read_bytes())
for name in ("generations/1608b9b89303d50f/wal/00000001_00001038.wal.lz4", "times/0000000000000001-0000000000000002.times"):
    add("legacy", name)

for path in files("config", "*.yml"):
    add("config_yaml", path.read_bytes())

for url in (
    "s3://bucket/prefix",
    "s3://space.nyc3.digitaloceanspaces.com/prefix",
    "s3://minio:9000/bucket/prefix",
    "s3://space.nyc3.d/b/p?endpoint=",
    "s3://bucket/p?endpoint=https://host:9000&region=eu-west-1&force-path-style=true",
    "https://host.example/bucket/prefix",
    "file:///srv/replica",
    "bucket.s3.eu-central-1.amazonaws.com/x\nAWS_REGION=eu-central-1",
):
    add("resolver", url)

XML = {
    "list": "<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>a/0001</Key><LastModified>2026-01-02T03:04:05.000Z"
    "</LastModified><ETag>&quot;e&quot;</ETag><Size>7</Size></Contents><NextContinuationToken>t</NextContinuationToken></ListBucketResult>",
    "error": "<Error><Code>SlowDown</Code><Message>words</Message><Region>eu-west-1</Region></Error>",
    "upload": "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>",
    "copy": "<CopyObjectResult><ETag>&quot;e&quot;</ETag></CopyObjectResult>",
    "delete": "<DeleteResult><Error><Key>k</Key><Code>AccessDenied</Code></Error></DeleteResult>",
}
for text in XML.values():
    add("s3_xml", text)
    add("s3_answer", "400\nx-amz-bucket-region: eu-west-1\ndate: Sat, 21 Nov 2026 23:17:31 GMT\n\n" + text)
for head in (
    "206\ncontent-range: bytes 0-99/100\ncontent-length: 100\n",
    "206\ncontent-range: bytes 7-4095/*\n",
    "200\ncontent-length: 100\netag: \"e\"\nx-amz-checksum-crc32: AAAAAA==\nx-amz-meta-litestream-timestamp: 2026-01-02T03:04:05Z\n",
    "301\nlocation: https://bucket.s3.eu-west-1.amazonaws.com/\n",
    "503\nretry-after: 7\n",
):
    add("s3_answer", head + "\n<html><h1>502 Bad Gateway</h1></html>")

for text in (
    '{"Version":1,"AccessKeyId":"A","SecretAccessKey":"s","SessionToken":"t","Expiration":"2026-01-02T03:04:05Z"}',
    '{"Code":"Failed","Message":"try later"}',
    "\x04<ErrorResponse><Error><Code>ExpiredToken</Code><Message>m</Message></Error></ErrorResponse>",
    "\x01[default]\naws_access_key_id = A\naws_secret_access_key = s # comment\n[profile a]\nrole_arn = r\nsource_profile = default\n"
    "[sso-session s]\nsso_region = eu-west-1\n",
):
    add("credentials", text)

slot = b"LSFSTATE" + (1).to_bytes(4, "little") + (4096).to_bytes(4, "little") + bytes(496)
add("local_files", b"\1\1\2" + slot + slot)
add("local_files", b'\0\1\2{"begun":1700000000000,"sound":null,"fault":"x","faults":1}')
add("local_files", b"\1\1\2LSTIMES1" + bytes([1, 0xD0, 0x0F, 1, 2]) + bytes(8))
add("local_files", b"\1\1\2" + bytes(72) + b"lF" + bytes(range(18)) + bytes(420))

with tempfile.TemporaryDirectory() as folder:
    for vacuum in (0, 1):
        path = pathlib.Path(folder) / f"{vacuum}.db"
        db = sqlite3.connect(path, isolation_level=None)
        db.executescript(f"""PRAGMA page_size = 512; PRAGMA auto_vacuum = {vacuum};
            CREATE TABLE a(id INTEGER PRIMARY KEY, x, y TEXT); CREATE INDEX i ON a(x);
            CREATE TABLE b(k PRIMARY KEY, v) WITHOUT ROWID;
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20)
                INSERT INTO a SELECT i, randomblob(i * 20), i FROM n;
            INSERT INTO b SELECT y, x FROM a;""")
        before = path.read_bytes()
        db.executescript("DELETE FROM a WHERE id % 3 = 0; UPDATE b SET v = 1 WHERE k % 4 = 0; INSERT INTO b VALUES (99, 0)")
        add("btree", (len(before) // 512).to_bytes(2, "big") + before + path.read_bytes())
        db.close()
