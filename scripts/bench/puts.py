"""Plain PUTs of given sizes at given times: what a store by itself takes from the writer beside it.

    python3 -m bench.puts FILE

The file has one JSON object: {"endpoint": ..., "bucket": ..., "ca": ..., "prefix": ..., "puts": [[seconds, bytes], ...]}.

Keys come from the environment. Says a line when it is connected, begins at a line on its input (seconds are counted from then), and says at the end
how many PUTs were answered and how late the last one was begun.
"""
import json
import os
import sys
import time

from . import s3

clock = time.monotonic


def main():
    with open(sys.argv[1]) as file:
        job = json.load(file)
    keys = {"access": os.environ["AWS_ACCESS_KEY_ID"], "secret": os.environ["AWS_SECRET_ACCESS_KEY"], "region": os.environ["AWS_REGION"]}
    client = s3.Client(job["endpoint"], job["bucket"], keys, job["ca"])
    body = os.urandom(max([size for _, size in job["puts"]], default=0))
    client.put(job["prefix"] + "/warm", b"warm")
    print(json.dumps("ready"), flush=True)
    sys.stdin.readline()
    begun, late = clock(), 0
    for number, (at, size) in enumerate(job["puts"]):
        late = clock() - begun - at
        if late < 0:
            time.sleep(-late)
        client.put(f"{job['prefix']}/{number}", body[:size])
    print(json.dumps({"puts": len(job["puts"]), "late": late}), flush=True)


if __name__ == "__main__":
    main()
