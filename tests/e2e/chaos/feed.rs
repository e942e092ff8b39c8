//! Sends messages at a pace, and keeps the books of what must come of them.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use aadstream::demo::random::Random;
use rdkafka::producer::{BaseProducer, Producer as _};

use super::corpus::Truth;
use super::judge::Books;
use crate::support::{Broker, Message, send};

/// It waits only if it is ahead by this.
const TICK: Duration = Duration::from_millis(20);
/// After the last message all must be in the topic within this.
const PATIENCE: Duration = Duration::from_secs(180);

/// Each message goes to a partition by the seed, in order: its offset is known.
pub struct Feeder<'a> {
    producer: BaseProducer,
    topic: &'a str,
    random: Random,
    books: Books,
    ends: Vec<i64>,
    /// How many were sent since when, at the pace of the moment.
    paced: (u32, Instant),
}

impl<'a> Feeder<'a> {
    pub fn new(broker: &Broker, topic: &'a str, seed: u64, partitions: usize) -> Self {
        Self {
            producer: broker.producer("lz4"),
            topic,
            random: Random::new(!seed),
            books: Books::default(),
            ends: vec![0; partitions],
            paced: (0, Instant::now()),
        }
    }

    /// Gives the partition.
    pub fn send(&mut self, message: Message, truth: &Truth) -> usize {
        let partition = self.random.below(self.ends.len());
        self.send_to(partition, message, truth);
        partition
    }

    pub fn send_to(&mut self, partition: usize, message: Message, truth: &Truth) {
        let number = i32::try_from(partition).expect("few");
        self.books.expect((number, self.ends[partition]), truth);
        self.ends[partition] += 1;
        send(&self.producer, self.topic, [message.in_partition(number)]);
    }

    /// Waits if more than so many a second were sent since the pace began.
    pub fn keep_pace(&mut self, messages_per_second: usize) {
        let (sent, since) = &mut self.paced;
        *sent += 1;
        let due = *since + Duration::from_secs(1) * *sent / u32::try_from(messages_per_second).expect("few");
        if due > Instant::now() + TICK {
            let (_running, stopped) = mpsc::channel::<()>();
            let _ = stopped.recv_timeout(TICK);
        }
    }

    /// Another pace begins.
    pub fn change_pace(&mut self) {
        self.paced = (0, Instant::now());
    }

    /// Waits until all are in the topic.
    pub fn finish(self) -> Books {
        self.producer.flush(PATIENCE).expect("everything is delivered");
        self.books
    }
}
