#!/usr/bin/env python3
"""Reads the events that aadstream forwards and hands each to its team.

    pip install confluent-kafka
    python3 consume_events.py --brokers 127.0.0.1:9092 --topic aadsts-events

It shows what a pipeline needs: events come at least once, so copies are dropped by their id; headers are enough to pass over
what is of no interest; an offset is stored only after the event was handled, and committed at the end. Later versions may
have more members: nobody should mind those that he does not know.
"""

import argparse
import collections
import json
import signal

from confluent_kafka import Consumer

# Ids that are remembered. A copy comes after a crash or a rebalance, never far behind its first.
REMEMBERED = 100_000


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--brokers", default="127.0.0.1:9092")
    options.add_argument("--topic", default="aadsts-events")
    options.add_argument("--group", default="aadsts-events-example")
    options.add_argument("--severity", nargs="*", default=["critical", "high"], help="what is handled (default: critical high)")
    arguments = options.parse_args()

    consumer = Consumer({
        "bootstrap.servers": arguments.brokers,
        "group.id": arguments.group,
        "auto.offset.reset": "earliest",
        "enable.auto.offset.store": False,
    })
    consumer.subscribe([arguments.topic])
    seen = collections.OrderedDict()
    # As Ctrl-C does: what was handled is committed, and the partitions are free at once.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while True:
            message = consumer.poll(1.0)
            if message is None:
                continue
            if message.error():
                print("waiting:", message.error().str(), flush=True)
                continue
            headers = {key: (value or b"").decode() for key, value in message.headers() or []}
            if headers.get("severity") in arguments.severity and is_new(seen, headers.get("event-id")):
                handle(json.loads(message.value()))
            consumer.store_offsets(message)
    except KeyboardInterrupt:
        pass
    finally:
        consumer.close()


def is_new(seen, event_id):
    if event_id in seen:
        return False
    seen[event_id] = None
    if len(seen) > REMEMBERED:
        seen.popitem(last=False)
    return True


def handle(event):
    """Here a ticket would be opened, or a message sent."""
    whose = event.get("team") or event["audience"]
    what = event.get("app_name") or event.get("app_id") or event.get("dataset_id") or "unknown origin"
    print(f"{event.get('time', '')} {event['severity']:8} for {whose}: {event['code']} {event['title']} ({what})", flush=True)
    for number, step in enumerate(event.get("fix", []), 1):
        print(f"    {number}. {step}", flush=True)


if __name__ == "__main__":
    main()
