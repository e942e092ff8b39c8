//! The yardstick for draining a topic: a bare loop over the Kafka client that only counts bytes.
//!
//! `bare BROKERS TOPIC MESSAGES` reads from the beginning and prints `messages bytes seconds cpu_seconds`, measured from the
//! first message on.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program of its own")]

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [brokers, topic, wanted] = args.as_slice() else {
        eprintln!("usage: bare BROKERS TOPIC MESSAGES");
        std::process::exit(2)
    };
    let wanted: u64 = wanted.parse().expect("MESSAGES is a number");
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", format!("bare-{}", std::process::id()))
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("fetch.queue.backoff.ms", "10")
        .create()
        .expect("the client starts");
    consumer.subscribe(&[topic]).expect("the topic can be subscribed to");
    let (mut messages, mut bytes, mut first) = (0u64, 0u64, None);
    while messages < wanted {
        if let Some(Ok(message)) = consumer.poll(Duration::from_secs(1)) {
            first.get_or_insert_with(Instant::now);
            messages += 1;
            bytes += message.payload_len() as u64;
        }
    }
    let seconds = first.map_or(0.0, |first| first.elapsed().as_secs_f64());
    println!("{messages} {bytes} {seconds:.4} {:.3}", cpu_seconds());
    std::process::exit(0);
}

/// User and system time of this process, in seconds (Linux counts them in hundredths).
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks: f64 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<f64>().ok()).sum();
    ticks / 100.0
}
