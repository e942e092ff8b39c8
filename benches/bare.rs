//! The yardstick for draining a topic: a bare loop over the Kafka client that only counts bytes.
//!
//! `bare BROKERS TOPIC MESSAGES [poll|batch|callback [KEY=VALUE…]]` reads from the beginning, with librdkafka's settings as
//! given, and prints `messages bytes seconds cpu_seconds`, measured from the first message on. `poll` takes one message at
//! a time as the service does; the others take what a queue of their own holds, by calls that rdkafka does not wrap.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program of its own")]
#![expect(unsafe_code, reason = "calls of librdkafka that rdkafka does not wrap")]

use std::ffi::{CString, c_void};
use std::ptr;
use std::time::{Duration, Instant};

use rdkafka::bindings::{
    rd_kafka_consume_batch_queue, rd_kafka_consume_callback_queue, rd_kafka_message_destroy,
    rd_kafka_message_t, rd_kafka_queue_forward, rd_kafka_queue_get_partition, rd_kafka_queue_new,
    rd_kafka_queue_t,
};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::metadata::{MetadataPartition, MetadataTopic};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// What was read so far.
#[derive(Default)]
struct Count {
    messages: u64,
    bytes: u64,
    first: Option<Instant>,
}

impl Count {
    fn add(&mut self, bytes: usize) {
        self.first.get_or_insert_with(Instant::now);
        self.messages += 1;
        self.bytes += bytes as u64;
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [brokers, topic, wanted, rest @ ..] = args.as_slice() else {
        eprintln!("usage: bare BROKERS TOPIC MESSAGES [poll|batch|callback [KEY=VALUE…]]");
        std::process::exit(2)
    };
    let (way, settings) =
        rest.split_first().map_or(("poll", rest), |(way, settings)| (way.as_str(), settings));
    let wanted: u64 = wanted.parse().expect("MESSAGES is a number");
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("group.id", "bare")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("fetch.queue.backoff.ms", "10");
    for setting in settings {
        let (key, value) = setting.split_once('=').expect("a setting is KEY=VALUE");
        config.set(key, value);
    }
    let consumer: BaseConsumer = config.create().expect("the client starts");
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).expect("the broker answers");
    let partitions: Vec<i32> =
        metadata.topics().iter().flat_map(MetadataTopic::partitions).map(MetadataPartition::id).collect();
    let mut assignment = TopicPartitionList::new();
    for partition in &partitions {
        assignment.add_partition_offset(topic, *partition, Offset::Beginning).expect("a valid offset");
    }
    consumer.assign(&assignment).expect("the partitions are assigned");
    let mut count = Count::default();
    match way {
        "poll" => {
            while count.messages < wanted {
                if let Some(Ok(message)) = consumer.poll(Duration::from_secs(1)) {
                    count.add(message.payload_len());
                }
            }
        }
        "batch" => {
            let queue = own_queue(&consumer, topic, &partitions);
            while count.messages < wanted {
                batch(queue, &mut count);
                // What is no message: statistics, errors, rebalances.
                drop(consumer.poll(Duration::ZERO));
            }
        }
        "callback" => {
            let queue = own_queue(&consumer, topic, &partitions);
            while count.messages < wanted {
                // SAFETY: the queue is never destroyed; the callback runs before the call returns, so `count` outlives it.
                unsafe { rd_kafka_consume_callback_queue(queue, 100, Some(take), (&raw mut count).cast()) };
                drop(consumer.poll(Duration::ZERO));
            }
        }
        other => panic!("no way `{other}`"),
    }
    let seconds = count.first.map_or(0.0, |first| first.elapsed().as_secs_f64());
    println!("{} {} {seconds:.4} {:.3}", count.messages, count.bytes, cpu_seconds());
    std::process::exit(0);
}

/// A queue that all partitions are forwarded to, so that the consumer's own has only what needs care.
fn own_queue(consumer: &BaseConsumer, topic: &str, partitions: &[i32]) -> *mut rd_kafka_queue_t {
    let client = consumer.client().native_ptr();
    let topic = CString::new(topic).expect("no topic has a NUL");
    // SAFETY: the client outlives the queues, which live until the process ends.
    unsafe {
        let queue = rd_kafka_queue_new(client);
        for partition in partitions {
            rd_kafka_queue_forward(rd_kafka_queue_get_partition(client, topic.as_ptr(), *partition), queue);
        }
        queue
    }
}

fn batch(queue: *mut rd_kafka_queue_t, count: &mut Count) {
    let mut messages = [ptr::null_mut::<rd_kafka_message_t>(); 1000];
    // SAFETY: the queue is never destroyed; as many messages as the call says are ours, until we destroy each.
    unsafe {
        let taken = rd_kafka_consume_batch_queue(queue, 100, messages.as_mut_ptr(), messages.len());
        for message in &messages[..usize::try_from(taken).unwrap_or_default()] {
            if !(**message).payload.is_null() {
                count.add((**message).len);
            }
            rd_kafka_message_destroy(*message);
        }
    }
}

unsafe extern "C" fn take(message: *mut rd_kafka_message_t, count: *mut c_void) {
    // SAFETY: librdkafka hands over a message, and what we gave it, which nobody else uses meanwhile.
    let (message, count) = unsafe { (&*message, &mut *count.cast::<Count>()) };
    if !message.payload.is_null() {
        count.add(message.len);
    }
}

/// User and system time of this process, in seconds (Linux counts them in hundredths).
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks: f64 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<f64>().ok()).sum();
    ticks / 100.0
}
