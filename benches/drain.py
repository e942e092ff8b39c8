"""Drains one topic in turn by the bare loop, by `aadstream run` and by `aadstream run` that forwards, checks the counts and
prints ratios with their spread.

All are timed from their first message to their last: joining the group takes a second that says nothing about speed. With
forwarding the last is the one whose events are acknowledged.
"""

import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request

folder, brokers, topic, pairs = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
truth = json.load(open(f"{folder}/truth"))
total = truth["records"]
TICKS = os.sysconf("SC_CLK_TCK")


def bare():
    line = subprocess.run(["target/release/examples/bare", brokers, topic, str(total)], capture_output=True, text=True, check=True).stdout
    messages, size, seconds, cpu = line.split()
    assert int(messages) == total, line
    return float(seconds), float(cpu), int(size)


def samples(text, name):
    return {labels: float(value) for labels, value in re.findall(rf"^{name}{{(.*)}} (\S+)$", text, re.M)}


def ours(run, output=None):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = f"{folder}/aadstream.toml"
    with open(config, "w") as file:
        file.write(f'[kafka]\nbrokers = "{brokers}"\ntopics = ["{topic}"]\ngroup_id = "drain-{topic}-{run}-{output}"\n')
        if output:
            # Steps of normal sign-ins too: then as many events leave as are counted.
            file.write(f'[forward]\ntopic = "{output}"\nmin_severity = "info"\n')
        file.write(f'[web]\nlisten = "127.0.0.1:{port}"\n[metrics]\nbirth_hold_seconds = 0\n[log]\nlevel = "error"\n')
    service = subprocess.Popen(["target/release/aadstream", "run", "-c", config])
    try:
        first = last = None
        deadline = time.time() + 120
        while time.time() < deadline:
            # A look costs both sides processor time that the bare loop does not pay, so it is taken rarely; when the last
            # message was counted, the service itself says.
            time.sleep(0.1)
            try:
                text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
            except OSError:
                continue
            done = sum(samples(text, "aadstream_messages_processed_total").values())
            if done and first is None:
                first, first_done = time.time(), done
            if done < total:
                continue
            if not output:
                last = max(samples(text, "aadstream_last_progress_timestamp_seconds").values())
            elif sum(samples(text, "aadstream_events_forwarded_total").values()) >= sum(truth["codes"].values()):
                last = time.time()
            if last:
                break
        assert last, f"{done} of {total} messages after two minutes"
        # The tables of one scrape are read one after another: only the next one has the last batch in all of them.
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
        events = {}
        for labels, count in samples(text, "aadstream_events_total").items():
            code = re.search(r'code="([^"]*)"', labels)[1]
            if count:
                events[code] = events.get(code, 0) + int(count)
        assert events == truth["codes"], f"counted {events}, the truth is {truth['codes']}"
        stat = open(f"/proc/{service.pid}/stat").read().rsplit(") ", 1)[1].split()
        cpu = (int(stat[11]) + int(stat[12])) / TICKS
        peak = int(re.search(r"VmHWM:\s+(\d+)", open(f"/proc/{service.pid}/status").read())[1]) // 1024
        # What was read before the first look belongs to the time before it.
        return (last - first) * total / (total - first_done), cpu, peak
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(20)


bare(), ours("warm")
rows = [(bare(), ours(run), ours(run, f"{topic}-events")) for run in range(pairs)]
size = rows[0][0][2]
print(f"bare {size / statistics.median(b[0] for b, _, _ in rows) / 1e6:5.0f} MB/s", end="")
for name, at in [("aadstream", 1), ("forwarding", 2)]:
    rate = [row[0][0] / row[at][0] for row in rows]
    cpu = [row[at][1] / row[0][1] for row in rows]
    print(
        f", {name} {statistics.median(rate):.2f} of it ({min(rate):.2f} to {max(rate):.2f}), "
        f"CPU {statistics.median(cpu):.2f} x the loop's, peak {max(row[at][2] for row in rows)} MiB",
        end="",
    )
print()
