#!/usr/bin/env python3
"""Checks packaging/monitoring: the alert rules by promtool, and each query of rules and dashboard against a real
Prometheus that scrapes a real lsfast and a real standby.

    scripts/check-monitoring.py

promtool and prometheus are those on the PATH, or those that PROMTOOL_BIN and PROMETHEUS_BIN name (apt install
prometheus). Without them it says what it skips, and ends with 0. lsfast is target/debug/lsfast, or LSFAST.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDER = os.path.join(ROOT, "packaging", "monitoring")
LSFAST = os.environ.get("LSFAST", os.path.join(ROOT, "target", "debug", "lsfast"))
DEADLINE_SECONDS = 120


def program(name, variable):
    path = os.environ.get(variable) or shutil.which(name)
    if not path:
        print(f"SKIPPED: {name} is not on the PATH, and {variable} is not set (apt install prometheus)")
    return path


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def dashboard_queries():
    """Each query of the dashboard, with its variables as Grafana would fill them in."""
    with open(os.path.join(FOLDER, "dashboard.json")) as f:
        dashboard = json.load(f)
    names = {v["name"] for v in dashboard["templating"]["list"]}
    ids = [p["id"] for p in dashboard["panels"]]
    assert len(ids) == len(set(ids)), "two panels have one id"
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"].replace("$__rate_interval", "10s")
            for name in re.findall(r"\$(\w+)", query):
                assert name in names, f"{panel['title']}: no variable {name}"
            yield panel["title"], re.sub(r"\$\w+", ".*", query)
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            series = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
            assert series, variable["query"]
            query = re.sub(r"\$\w+", ".*", series[1])
            yield f"variable {variable['name']}", f"count by ({series[2]}) ({query})"


def rule_metrics():
    """The metrics that the alert rules use."""
    with open(os.path.join(FOLDER, "alerts.yml")) as f:
        text = f.read()
    expressions = re.findall(r"expr: (.*(?:\n {10,}.*)*)", text)
    return sorted(set(re.findall(r"\b(?:lsfast|process)_\w+", " ".join(expressions))))


@contextlib.contextmanager
def running(command, log, **options):
    with open(log, "w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, **options)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def until(what, check, log):
    end = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            if check():
                return
        time.sleep(0.2)
    with open(log) as f:
        sys.exit(f"not in {DEADLINE_SECONDS} s: {what}\n{f.read()[-3000:]}")


def check_queries(prometheus, promtool):
    with tempfile.TemporaryDirectory() as tmp, contextlib.ExitStack() as stack:
        addr, standby_addr, prometheus_addr, dead = (f"127.0.0.1:{free_port()}" for _ in range(4))
        at = lambda name: os.path.join(tmp, name)
        apps = [sqlite3.connect(at(f"{n}.db"), isolation_level=None) for n in ("one", "two")]
        for app in apps:
            app.execute("PRAGMA journal_mode=WAL")
            app.execute("CREATE TABLE t(x)")
        with open(at("lsfast.yml"), "w") as f:
            # The second database has a store that nobody serves, so that failures have series, too.
            f.write(f"""addr: {addr}
verify-interval: 1s
verify-rate: 100MiB
dbs:
- path: {at('one.db')}
  replica:
    path: {at('replica')}
- path: {at('two.db')}
  replica:
    url: s3://bucket/two?endpoint=http://{dead}
    access-key-id: x
    secret-access-key: y
""")
        with open(at("prometheus.yml"), "w") as f:
            f.write(f"""global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ['{os.path.join(FOLDER, 'alerts.yml')}']
scrape_configs:
- job_name: lsfast
  static_configs: [{{targets: ['{addr}', '{standby_addr}']}}]
""")
        log = at("lsfast.log")
        stack.enter_context(running([LSFAST, "replicate", "--config", at("lsfast.yml")], log))
        metrics = f"http://{addr}/metrics"
        until("a verified replica", lambda: "lsfast_verify_faults{" in get(metrics), log)
        standby = [LSFAST, "restore", "-f", "--addr", standby_addr, "-o", at("standby.db"), f"file://{at('replica')}"]
        log = at("standby.log")
        stack.enter_context(running(standby, log))
        until("a standby", lambda: "lsfast_follow_txid{" in get(f"http://{standby_addr}/metrics"), log)
        for name, url in (("replicate", metrics), ("restore -f", f"http://{standby_addr}/metrics")):
            checked = subprocess.run([promtool, "check", "metrics"], input=get(url), text=True, capture_output=True)
            if checked.returncode or checked.stderr.strip() or checked.stdout.strip():
                sys.exit(f"promtool check metrics, {name}: {checked.stdout}{checked.stderr}")
            print(f"promtool check metrics: {name} is clean")
        log = at("prometheus.log")
        command = [prometheus, f"--config.file={at('prometheus.yml')}", f"--storage.tsdb.path={at('tsdb')}"]
        stack.enter_context(running(command + [f"--web.listen-address={prometheus_addr}"], log))
        queries = list(dashboard_queries()) + [(f"rule: {name}", name) for name in rule_metrics()]
        empty = {}

        def all_answered():
            apps[0].execute("INSERT INTO t VALUES(1)")
            apps[1].execute("INSERT INTO t VALUES(1)")
            empty.clear()
            for title, query in queries:
                encoded = urllib.parse.urlencode({"query": query})
                try:
                    answer = json.loads(get(f"http://{prometheus_addr}/api/v1/query?{encoded}"))
                except urllib.error.HTTPError as e:
                    if e.code in (400, 422):
                        sys.exit(f"{title}: {query}\n{e.read().decode()}")
                    raise
                if not answer["data"]["result"]:
                    empty[title] = query
            return not empty

        try:
            until("an answer to each query", all_answered, log)
        except SystemExit:
            sys.exit("queries without a result:\n" + "\n".join(f"{t}: {q}" for t, q in empty.items()))
        print(f"{len(queries)} queries have results")


def main():
    promtool, prometheus = program("promtool", "PROMTOOL_BIN"), program("prometheus", "PROMETHEUS_BIN")
    if promtool:
        for command in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]):
            if subprocess.run([promtool, *command], cwd=FOLDER).returncode:
                sys.exit(f"promtool {' '.join(command)} failed")
    if promtool and prometheus:
        check_queries(prometheus, promtool)


if __name__ == "__main__":
    main()
