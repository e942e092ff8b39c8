//! A Kafka broker inside the process, and a producer that holds back: this broker keeps 5 MiB a partition and drops the
//! oldest without a word.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use anyhow::Context;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};

use super::writer::{Message, TOPICS};
use crate::service::TopicPartition;

/// Partitions that the broker gives a topic which it creates when somebody asks for it.
const PARTITIONS: i32 = 4;

/// A broker in the same process answers at once; so long only where the machine is out of breath.
const ANSWER: Duration = Duration::from_secs(10);

/// Unread bytes a partition above which nothing is sent to it. Counted before compression: the broker holds less.
const UNREAD_BYTES: usize = 2 * 1024 * 1024;

/// The broker and the one producer that writes to it.
pub struct Broker {
    cluster: MockCluster<'static, DefaultProducerContext>,
    producer: BaseProducer,
    /// Of each partition: what was sent and not read yet, and the next offset.
    sent: HashMap<TopicPartition, Sent>,
    turn: i32,
}

#[derive(Default)]
struct Sent {
    unread: VecDeque<(i64, usize)>,
    unread_bytes: usize,
    next_offset: i64,
}

impl Broker {
    pub fn start() -> anyhow::Result<Self> {
        let cluster = MockCluster::new(1).context("cannot start the broker in the process")?;
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", cluster.bootstrap_servers())
            .set("compression.codec", "lz4")
            .set("linger.ms", "20")
            .create()
            .context("cannot start the producer")?;
        // Asked for they are created, in milliseconds; the broker's own call to create one may sleep a second.
        for topic in TOPICS {
            producer
                .client()
                .fetch_metadata(Some(topic), ANSWER)
                .with_context(|| format!("cannot create {topic}"))?;
        }
        Ok(Self { cluster, producer, sent: HashMap::new(), turn: 0 })
    }

    pub fn address(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Notes how far the service has read.
    pub fn read(&mut self, positions: &[(TopicPartition, Option<i64>)]) {
        for (partition, next_offset) in positions {
            let (Some(sent), Some(next_offset)) = (self.sent.get_mut(partition), next_offset) else {
                continue;
            };
            while let Some((offset, bytes)) =
                sent.unread.front().copied().filter(|(offset, _)| offset < next_offset)
            {
                debug_assert!(offset < *next_offset);
                sent.unread_bytes -= bytes;
                sent.unread.pop_front();
            }
        }
    }

    /// Whether everything that was sent was read.
    pub fn is_read(&self) -> bool {
        self.sent.values().all(|sent| sent.unread.is_empty())
    }

    /// Sends a message; false if its partition has too much unread.
    pub fn send(&mut self, message: &Message) -> anyhow::Result<bool> {
        let number = self.turn % PARTITIONS;
        let partition: TopicPartition = (message.topic.into(), number);
        let sent = self.sent.entry(partition).or_default();
        let bytes = size(message);
        if sent.unread_bytes > 0 && sent.unread_bytes + bytes > UNREAD_BYTES {
            self.producer.poll(Duration::ZERO);
            return Ok(false);
        }
        let mut headers = OwnedHeaders::new();
        for (key, value) in &message.headers {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let mut record: BaseRecord<'_, [u8], [u8]> =
            BaseRecord::to(message.topic).partition(number).headers(headers);
        if let Some(key) = &message.key {
            record = record.key(key);
        }
        if let Some(payload) = &message.payload {
            record = record.payload(payload);
        }
        self.producer
            .send(record)
            .map_err(|(error, _)| error)
            .context("cannot send to the broker in the process")?;
        self.producer.poll(Duration::ZERO);
        sent.unread.push_back((sent.next_offset, bytes));
        sent.unread_bytes += bytes;
        sent.next_offset += 1;
        self.turn += 1;
        Ok(true)
    }

    /// Waits until the broker has everything.
    pub fn flush(&self) -> anyhow::Result<()> {
        self.producer.flush(ANSWER).context("cannot send to the broker in the process")
    }
}

/// What a message takes in the broker at most.
fn size(message: &Message) -> usize {
    let headers: usize = message.headers.iter().map(|(key, value)| key.len() + value.len()).sum();
    [&message.key, &message.payload].into_iter().flatten().map(Vec::len).sum::<usize>() + headers
}
