#!/usr/bin/env python3
"""Fuzzes for a long time: all targets in turn, in slices, each with the same share of processor time.

    scripts/fuzz.py SECONDS              until each target has had this processor time in this run
    scripts/fuzz.py SECONDS TARGET...    these targets only
    scripts/fuzz.py --table              the figures of all runs up to now, as docs/reliability.md has them

Starts from fuzz/corpus, which it extends. Goes on after a finding: the input is in fuzz/artifacts/TARGET. Ctrl-C or
SIGTERM ends it with the table. It may run several times at once, with different targets each. Needs what scripts/test.sh
needs for fuzzing, and no other Python package.
"""
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
FUZZ = ROOT / "fuzz"
# One line for each slice: target, executions, seconds of processor time, edges, findings.
FIGURES = FUZZ / "corpus" / "figures.tsv"
# Longest time of a slice by the clock. A fuzzer reads its whole corpus at the start of each.
SLICE_S = 600


class Ended(Exception):
    pass


def last_number(pattern, log):
    found = re.findall(pattern, log)
    return int(found[-1]) if found else 0


def run_slice(program, target, seconds):
    """Runs one fuzzer until its time is over or it has found something. Returns its processor time in seconds."""
    artifacts = FUZZ / "artifacts" / target
    artifacts.mkdir(parents=True, exist_ok=True)
    seed = random.SystemRandom().randrange(1, 2**32)
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [program, FUZZ / "corpus" / target, f"-artifact_prefix={artifacts}/", f"-seed={seed}",
             f"-max_total_time={seconds}", "-rss_limit_mb=2048", "-timeout=60", "-print_final_stats=1"],
            stdout=output, stderr=output, cwd=FUZZ)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except Ended:
            process.send_signal(signal.SIGINT)
            _, status, usage = os.wait4(process.pid, 0)
            status = 0
            raise
        finally:
            output.seek(0)
            log = output.read().decode(errors="replace")
            cpu = usage.ru_utime + usage.ru_stime
            runs = last_number(r"stat::number_of_executed_units: (\d+)", log) or last_number(r"(?m)^#(\d+)\t", log)
            edges = last_number(r"\bcov: (\d+)", log)
            with FIGURES.open("a") as figures:
                figures.write(f"{target}\t{runs}\t{cpu:.2f}\t{edges}\t{int(status != 0)}\n")
            if status != 0:
                kept = artifacts / f"seed-{seed}.log"
                kept.write_text(log)
                print(f"{target}: found something, see {kept.relative_to(ROOT)}", flush=True)
    return cpu


def table():
    sums = {}
    for line in FIGURES.read_text().splitlines():
        target, runs, cpu, edges, findings = line.split("\t")
        of = sums.setdefault(target, [0, 0.0, 0, 0])
        of[0] += int(runs)
        of[1] += float(cpu)
        of[2] = max(of[2], int(edges))
        of[3] += int(findings)
    print("| target | executions | edges | inputs kept | minutes | findings |")
    print("|---|---|---|---|---|---|")
    for target, (runs, cpu, edges, findings) in sorted(sums.items()):
        inputs = sum(1 for _ in (FUZZ / "corpus" / target).iterdir())
        print(f"| `{target}` | {runs:,} | {edges:,} | {inputs:,} | {cpu / 60:.1f} | {findings} |", flush=True)


def end(*_):
    raise Ended


def main(arguments):
    if arguments == ["--table"]:
        return table()
    if not arguments or not arguments[0].isdigit():
        sys.exit(__doc__)
    seconds = int(arguments[0])
    cargo = ["cargo", "+nightly", "fuzz"]
    known = subprocess.run([*cargo, "list"], cwd=FUZZ, check=True, capture_output=True, text=True).stdout.split()
    targets = arguments[1:] or known
    if unknown := set(targets) - set(known):
        sys.exit(f"{', '.join(sorted(unknown))}: there is no such target, but {', '.join(known)}")
    subprocess.run([sys.executable, FUZZ / "corpus.py"], check=True)
    for target in targets:
        subprocess.run([*cargo, "build", "--sanitizer", "none", target], cwd=FUZZ, check=True)
    host = re.search(r"host: (\S+)", subprocess.check_output(["rustc", "-vV"], text=True)).group(1)
    programs = FUZZ / "target" / host / "release"

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    used = dict.fromkeys(targets, 0.0)
    try:
        while (left := seconds - min(used.values())) > 0:
            target = min(used, key=used.get)
            # A fuzzer that fails before its first input uses next to nothing: one second at least is counted.
            used[target] += max(1, run_slice(programs / target, target, max(1, min(SLICE_S, round(left)))))
    except Ended:
        pass
    table()


main(sys.argv[1:])
