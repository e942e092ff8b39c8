"""Runs the tools of `benches/scan` in turn over one corpus, checks what they found and prints ratios with their spread."""

import json
import statistics
import subprocess
import sys
import time

folder, pairs, layout, failures = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
corpus, tenth = f"{folder}/corpus", f"{folder}/tenth"
truth = json.load(open(f"{folder}/truth"))
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
lines = int(run("rg", "-c", "AADSTS", corpus)[1])
if layout != "batches" and lines != truth["failures"]:
    sys.exit(f"rg counted {lines} lines, the truth is {truth['failures']}")
times = [(ours(corpus)[0], run("rg", "-c", "AADSTS", corpus)[0]) for _ in range(pairs)]
ratios = sorted(a / b for a, b in times)
line = f"{statistics.median(a for a, _ in times) * 1000:4.0f} ms, {statistics.median(ratios):.2f} x rg ({ratios[0]:.2f} to {ratios[-1]:.2f})"
if layout != "batches" and failures == "10":
    ours_tenth = min(ours(tenth)[0] for _ in range(3))
    jq = run("jq", "-c", 'select(.resultType != "0") | .resultType', tenth)[0]
    mtail = run("mtail", "--progs", f"{folder}/codes.mtail", "--logs", tenth, "--one_shot", "--one_shot_format", "prometheus")[0]
    line += f"; {jq / ours_tenth:.0f} x faster than jq, {mtail / ours_tenth:.0f} x faster than mtail"
print(line)
