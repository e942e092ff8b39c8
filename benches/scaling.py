"""Drains one topic by a group of 1, 2 and 3 processes and prints rate and processor time of each group."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request

folder, brokers, topic = sys.argv[1:4]
truth = json.load(open(f"{folder}/truth"))
TICKS = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def metrics(port):
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    except OSError:
        return ""


def total(texts, name):
    return sum(float(value) for text in texts for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.M))


def group(size, run):
    """Records a second, from the first look that finds something counted to the last record, and processor seconds."""
    services, ports = [], [free_port() for _ in range(size)]
    try:
        for number, port in enumerate(ports):
            config = f"{folder}/{number}.toml"
            with open(config, "w") as file:
                file.write(f'[kafka]\nbrokers = "{brokers}"\ntopics = ["{topic}"]\ngroup_id = "scaling-{size}-{run}"\n')
                file.write(f'[web]\nlisten = "127.0.0.1:{port}"\n[metrics]\nbirth_hold_seconds = 0\n[log]\nlevel = "error"\n')
            services.append(subprocess.Popen(["target/release/aadstream", "run", "-c", config]))
        first, deadline = None, time.time() + 120
        while True:
            time.sleep(0.1)
            texts = [metrics(port) for port in ports]
            done = total(texts, "aadstream_messages_processed_total")
            if done and first is None:
                first, first_done = time.time(), done
            if done >= truth["records"]:
                break
            if time.time() > deadline:
                sys.exit(f"{done} of {truth['records']} messages after two minutes")
        assert done == truth["records"], "a message was counted twice"
        busy = sum(1 for text in texts if total([text], "aadstream_messages_processed_total"))
        assert busy == size, f"{busy} of {size} processes had something to do"
        last = max(float(value) for text in texts for value in re.findall(r"^aadstream_last_progress_timestamp_seconds{.*} (\S+)$", text, re.M))
        cpu = 0.0
        for service in services:
            stat = open(f"/proc/{service.pid}/stat").read().rsplit(") ", 1)[1].split()
            cpu += (int(stat[11]) + int(stat[12])) / TICKS
        return (done - first_done) / max(last - first, 1e-3), cpu
    finally:
        for service in services:
            service.send_signal(signal.SIGTERM)
        for service in services:
            service.wait(20)


for size in (1, 2, 3):
    runs = sorted(group(size, run) for run in range(3))
    rate, cpu = runs[1]
    print(f"  {size} process{'es' if size > 1 else '  '}  {rate:8.0f} records/s ({runs[0][0]:.0f} to {runs[2][0]:.0f}), {cpu:.2f} CPU seconds")
