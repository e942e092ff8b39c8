//! Where reading of a partition begins, and what retention took before it was read.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};

use super::context::Context;
use super::progress::TopicPartition;
use crate::config::Start;
use crate::digest::time::Millis;

/// One request to the brokers; a rebalance waits for it.
const REQUEST: Duration = Duration::from_secs(10);

/// Where one partition begins.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Beginning {
    pub partition: TopicPartition,
    pub offset: i64,
    /// The end of the log.
    pub high: i64,
    /// Messages that retention or `DeleteRecords` removed before they were read.
    pub lost: u64,
}

/// Finds where `partitions` begin: at `known` positions or at the offsets the group has committed, and where there is
/// none as `start` says. A position below the log's start is moved up and the gap counted as lost.
///
/// Asking first keeps the two cases apart, which `auto.offset.reset` would mix.
pub fn beginnings(
    consumer: &BaseConsumer<Context>,
    partitions: &[(TopicPartition, Option<i64>)],
    start: Start,
    now: Millis,
) -> KafkaResult<Vec<Beginning>> {
    let mut asked = TopicPartitionList::new();
    for ((topic, number), _) in partitions {
        asked.add_partition(topic, *number);
    }
    let committed = consumer.committed_offsets(asked.clone(), REQUEST)?;
    let by_time = match start {
        Start::Ago(ago) => Some(now - i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)),
        Start::At(millis) => Some(millis),
        Start::Earliest | Start::Latest => None,
    };
    let mut beginnings = Vec::new();
    for (partition, known) in partitions {
        let (topic, number) = (&partition.0, partition.1);
        let (low, high) = consumer.fetch_watermarks(topic, number, REQUEST)?;
        let offset = committed.find_partition(topic, number).map(|element| element.offset());
        let position = known.or(match offset {
            Some(Offset::Offset(offset)) => Some(offset),
            _ => None,
        });
        let wanted = match (position, by_time) {
            (Some(position), _) => position,
            (None, Some(time)) => offset_at(consumer, partition, time)?.unwrap_or(high),
            (None, None) if start == Start::Latest => high,
            (None, None) => low,
        };
        // An offset behind the end means that the topic was made anew: its log begins again.
        let offset = if wanted > high { low } else { wanted.max(low) };
        let lost = if wanted > high { 0 } else { (low - wanted).max(0).unsigned_abs() };
        beginnings.push(Beginning { partition: partition.clone(), offset, high, lost });
    }
    Ok(beginnings)
}

/// The first offset whose message is not older than `time`; `None` if all are.
fn offset_at(
    consumer: &BaseConsumer<Context>,
    partition: &TopicPartition,
    time: Millis,
) -> KafkaResult<Option<i64>> {
    let mut asked = TopicPartitionList::new();
    asked.add_partition_offset(&partition.0, partition.1, Offset::Offset(time))?;
    let answer = consumer.offsets_for_times(asked, REQUEST)?;
    Ok(answer.elements().first().and_then(|element| match element.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }))
}
