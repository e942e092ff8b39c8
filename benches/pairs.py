"""Runs the tools of `benches/scan` in turn over one corpus, checks what they found and prints ratios with their spread."""

import json
import os
import statistics
import subprocess
import sys
import time

folder, pairs, layout, failures = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
corpus = f"{folder}/corpus"
truth = json.load(open(f"{folder}/truth"))
without = os.environ.get("WITHOUT", "").split()
MTAIL = "counter codes by code limit 5000\n/AADSTS(?P<code>\\d+)/ {\n  codes[$code]++\n}\n"
open(f"{folder}/codes.mtail", "w").write(MTAIL)


def run(*command):
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{command[0]} failed: {done.stderr.strip()}")
    return seconds, done.stdout


def ours(path):
    return run("target/release/aadstream", "scan", "--format", "json", path)


def check(output):
    counted = {row["code"]: row["events"] for row in json.loads(output)["codes"] if row["events"]}
    if counted != truth["codes"]:
        sys.exit(f"aadstream counted {counted}, the truth is {truth['codes']}")


check(ours(corpus)[1])
line = ""
if "rg" not in without:
    lines = int(run("rg", "-c", "AADSTS", corpus)[1])
    # In batches a line holds many records.
    if not layout.startswith("batches") and lines != truth["failures"]:
        sys.exit(f"rg counted {lines} lines, the truth is {truth['failures']}")
    times = [(ours(corpus)[0], run("rg", "-c", "AADSTS", corpus)[0]) for _ in range(pairs)]
    ratios = sorted(a / b for a, b in times)
    milliseconds = [statistics.median(column) * 1000 for column in zip(*times)]
    line += f"{milliseconds[0]:4.0f} ms, rg {milliseconds[1]:3.0f} ms: {statistics.median(ratios):.2f} x ({ratios[0]:.2f} to {ratios[-1]:.2f})"
if layout == "lines" and failures == "10":
    best = min(ours(corpus)[0] for _ in range(3))
    if "jq" not in without:
        seconds, output = run("jq", "-c", 'select(.resultType != "0") | .resultType', corpus)
        if output.count("\n") != truth['failures']:
            sys.exit(f"jq found {output.count(chr(10))} failures, the truth is {truth['failures']}")
        line += f"; {seconds / best:.0f} x faster than jq"
    if "mtail" not in without:
        seconds, output = run(
            "mtail", "--progs", f"{folder}/codes.mtail", "--logs", corpus, "--one_shot", "--one_shot_format", "prometheus"
        )
        found = sum(int(float(row.rsplit(" ", 1)[1])) for row in output.splitlines() if row.startswith("codes{"))
        if found < truth['failures']:
            sys.exit(f"mtail counted {found} codes, the truth is at least {truth['failures']}")
        line += f"; {seconds / best:.0f} x faster than mtail"
print(line)
