"""Drains one topic in turn by the bare loop, by `aadstream run` and by `aadstream run` that forwards, checks the counts and
prints ratios with their spread.

All are timed from their first message to their last: joining the group takes a second that says nothing about speed. With
forwarding the last is the one whose events are acknowledged.
"""

import json
import os
import re
import resource
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


def children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measured(*command):
    """Seconds, processor seconds and output of a program that ends by itself."""
    cpu, start = children(), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command[0]} failed: {done.stderr.strip()}")
    return time.perf_counter() - start, children() - cpu, done.stdout


def kcat():
    command = ["kcat", "-C", "-b", brokers, "-t", topic, "-o", "beginning", "-c", str(total), "-q", "-f", "%o\\n"]
    seconds, cpu, output = measured(*command)
    assert output.count("\n") == total, f"kcat read {output.count(chr(10))} of {total}"
    return seconds, cpu


def perf():
    jars = os.environ["AADSTREAM_KAFKA_JARS"]
    command = ["java", "-Xmx512m", "-cp", f"{jars}/*", "org.apache.kafka.tools.ConsumerPerformance", "--bootstrap-server", brokers]
    _, cpu, output = measured(*command, "--topic", topic, "--messages", str(total), "--group", f"perf-{time.time()}", "--timeout", "60000")
    header, row = ([cell.strip() for cell in line.split(",")] for line in output.strip().splitlines()[-2:])
    row = dict(zip(header, row))
    assert int(row["data.consumed.in.nMsg"]) >= total, row
    # Without the seconds that joining the group takes.
    return float(row["fetch.time.ms"]) / 1000, cpu


def rsyslogd():
    """Counts codes as we do; its counters come once a second, so the time is right to a second."""
    stats, host = f"{folder}/rsyslog.json", brokers
    config = f"""module(load="impstats" interval="1" format="json" resetCounters="off" log.file="{stats}" log.syslog="off")
module(load="imkafka")
dyn_stats(name="aadsts" resettable="off" maxCardinality="5000" unusedMetricLife="86400")
ruleset(name="count" queue.type="LinkedList" queue.size="200000" queue.dequeueBatchSize="4096" queue.workerThreads="1") {{
  if $msg contains "AADSTS" then {{
    set $.code = re_extract($msg, "AADSTS([0-9]{{4,7}})", 0, 1, "");
    if $.code != "" then {{ set $.rc = dyn_inc("aadsts", $.code); }}
  }}
}}
input(type="imkafka" topic="{topic}" broker=["{host}"] consumergroup="rsyslog-{time.time()}" ruleset="count"
  confParam=["auto.offset.reset=earliest", "fetch.wait.max.ms=100", "queued.max.messages.kbytes=65536"])
*.* action(type="omfile" file="/dev/null")
"""
    open(f"{folder}/rsyslog.conf", "w").write("global(maxMessageSize=\"1m\" workDirectory=\"" + folder + "\")\n" + config)
    if os.path.exists(stats):
        os.remove(stats)
    service = subprocess.Popen(["rsyslogd", "-n", "-f", f"{folder}/rsyslog.conf", "-i", f"{folder}/rsyslog.pid"])
    try:
        first, deadline = None, time.time() + 300
        while time.time() < deadline:
            time.sleep(0.1)
            rows = open(stats).read().splitlines() if os.path.exists(stats) else []
            rows = [row[row.index("{"):] for row in rows if '"aadsts"' in row and '"values"' in row]
            counted = sum(json.loads(rows[-1])["values"].values()) if rows else 0
            if counted and first is None:
                # What the first row holds was read in the second before it.
                first = time.perf_counter() - 1
            if counted >= truth["failures"]:
                assert counted == truth["failures"], f"rsyslog counted {counted}, the truth is {truth['failures']}"
                stat = open(f"/proc/{service.pid}/stat").read().rsplit(") ", 1)[1].split()
                return time.perf_counter() - first, (int(stat[11]) + int(stat[12])) / TICKS
        sys.exit(f"rsyslog counted {counted} of {truth['failures']} in five minutes")
    finally:
        service.terminate()
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
for peer in os.environ.get("PEERS", "").split():
    times = [{"kcat": kcat, "perf": perf, "rsyslogd": rsyslogd}[peer]() for _ in range(min(pairs, 3))]
    rate = statistics.median(seconds for seconds, _ in times) / statistics.median(row[1][0] for row in rows)
    cpu = statistics.median(cpu for _, cpu in times) / statistics.median(row[1][1] for row in rows)
    print(f"; {peer} takes {rate:.2f} x our time and {cpu:.2f} x our CPU", end="", flush=True)
print()
